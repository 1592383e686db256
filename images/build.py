"""Building a guest image: packages in, {vmlinuz, initramfs, root.erofs, manifest.json} out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from images.archive import DEFAULT_MIRROR, Fetcher, Package, open_archive, suites_of, with_fresh_index
from images.bakery import finish_tree
from images.cpio import write_cpio
from images.depmod import index_modules
from images.disk import disk_full_explained, require_space, sha256_file, temporary_folder, work_lock
from images.donor import Donor, open_donor, unpack_unread
from images.downloads import SOURCE, have_downloads
from images.erofs import packed_by, write_erofs
from images.errors import RecipeError
from images.initramfs import initramfs_entries, own_files, own_mode, own_paths
from images.kernel import write_kernel
from images.kit import KitPackages, open_bakery
from images.module_search import choose_modules
from images.modules import ModuleSet
from images.origins import write_origins
from images.recipe import FILES, Recipe
from images.rootfs import Unpacked, apply_recipe, package_tree, unpack_packages
from images.store import (
    FORMAT,
    INITRAMFS,
    KERNEL,
    ROOT,
    Image,
    describe_parts,
    find_sound,
    list_images,
    note_made,
    note_use,
    store_image,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysequoia import Cert

    from images.bake import Builder
    from images.downloads import Download
    from images.erofs import Place
    from images.progress import Progress
    from images.tree import Slice, Tree

# Part of every recipe's digest: raise it when this code makes other bytes of the same recipe.
REVISION = 3
# Any constant will do: what matters is that it is not drawn by lot.
EROFS_UUID = UUID("8d2cbd1b-1c0d-4d0e-9c43-7f1f6f2d8e55")


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    recipe: Recipe
    arch: str
    suite: str
    mirror: str
    cache: Path
    builder: Builder
    progress: Progress
    fetcher: Fetcher
    keys: Sequence[Cert] | None


def recipe_digest(recipe: Recipe) -> str:
    """The hex sha256 of all that goes into an image besides packages: the recipe, its files, this code's revision."""
    folders = [*recipe.files, recipe.initramfs, *(["builder", "builder-jobs"] if recipe.finish else [])]
    words = dataclasses.asdict(recipe)
    overlay = words.pop("overlay")  # where it lies does not matter, what is in it does
    del words["downloads"]
    content: dict[str, Any] = {
        "revision": REVISION,
        "recipe": words,
        "files": {
            f"{folder}/{path}": [hashlib.sha256(data).hexdigest(), mode]
            for folder in folders
            for path, data, mode in own_files(FILES / folder)
        },
    }
    if recipe.downloads:
        content["downloads"] = [one.content() for one in recipe.downloads]
    if overlay:
        content["overlay"] = [[path, sha256_file(file), _mode_of(file)] for path, file in own_paths(Path(overlay))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _mode_of(file: Path) -> int:
    with file.open("rb") as stream:
        return own_mode(stream.read(4))


def find_image(recipe: Recipe, arch: str, suite: str | None, cache: Path) -> Image | None:
    """The newest stored image of this very recipe, without any look at the network."""
    digest = recipe_digest(recipe)
    for image in list_images(cache):
        if (image.manifest["recipe"], image.arch, image.suite) == (digest, arch, suite or recipe.suite):
            return image
    return None


def build_image(
    recipe: Recipe,
    arch: str,
    suite: str | None,
    mirror: str | None,
    cache: Path,
    builder: Builder,
    progress: Progress,
    *,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> Image:
    """Make the image from the archive as it is now, and store it; the same packages give the same image.

    When the store has the image of exactly these packages, and it is sound, that one is returned. One build at a time
    per cache; a second one waits. Nothing half-made is left, downloads stay for a retry. When the mirror is updated
    meanwhile, all is done once more from its new index.

    :param suite: instead of the recipe's.
    :param mirror: default: DEFAULT_MIRROR.
    :param keys: pinned certificates instead of the shipped ones.
    :raises HostvmError: see `open_archive`, `Fetcher.fetch_all`, `resolve` and `Builder.run`.
    """
    place = mirror or DEFAULT_MIRROR
    plan = _Plan(
        recipe,
        arch,
        suite or recipe.suite,
        place,
        cache,
        builder,
        progress,
        fetcher or Fetcher(cache, note=progress.note),
        keys,
    )
    with work_lock(cache / "images", progress):
        return with_fresh_index(lambda: _have_image(plan), progress)


def _have_image(plan: _Plan) -> Image:
    recipe, arch, cache, progress = plan.recipe, plan.arch, plan.cache, plan.progress
    kernel = recipe.arch(arch).kernel
    with temporary_folder(cache / "images") as work, ExitStack() as held:
        suites = suites_of(plan.suite, plan.mirror, recipe.pockets)
        others = {name: suites_of(name, plan.mirror, recipe.pockets) for name in recipe.suites.values()}
        archive = open_archive(suites, arch, plan.fetcher, progress, keys=plan.keys, pins=recipe.suites, others=others)
        wanted = archive.resolve([*recipe.packages, kernel], recipe.exclude_packages)
        _check_suites(recipe, wanted)
        current = _find_current(plan, wanted)
        if current is not None:
            progress.note(f"image {current.digest[:12]} is up to date: no package is newer")
            note_made(current)
            return note_use(current)  # here, where no prune gets in between
        added = have_downloads(recipe.downloads, arch, plan.fetcher.of(SOURCE), progress)
        debs = archive.fetch(wanted, progress)
        kit = KitPackages.of(archive, arch) if recipe.finish else None
        del archive  # nothing more is asked of its index, which holds some 50 MB
        donor = None if recipe.finish else held.enter_context(open_donor(cache, wanted, _facts(recipe)))
        if donor is not None:
            progress.note(f"what image {donor.image.digest[:12]} has of these packages is taken from there")
        unpacked = unpack_packages(wanted, debs, work, progress, donor)
        if kit is not None:  # made, if need be, while there is no tree in memory yet
            open_bakery(kit, plan.fetcher, cache, plan.builder, progress, unpacked)
        tree, modules = _shape(plan, unpacked, added, work / "image", donor)
        if kit is not None:
            bakery = open_bakery(kit, plan.fetcher, cache, plan.builder, progress, unpacked)
            tree = finish_tree(tree, recipe.finish, modules.release, bakery, work, progress)
        return _store(plan, tree, modules, unpacked, added, work)


def _facts(recipe: Recipe) -> dict[str, Any]:
    """What decides the bytes of a root besides what is in it."""
    return {"revision": REVISION, "level": recipe.level, "packed_by": packed_by()}


def _check_suites(recipe: Recipe, packages: Sequence[Package]) -> None:
    strangers = sorted(recipe.suites.keys() - {package.name for package in packages})
    if strangers:
        raise RecipeError(
            f"recipe {recipe.name} names a suite for packages that it has not",
            f"suites: {', '.join(strangers)}",
            "Correct the recipe's `suites` or `packages`, then `hostvm image build` again",
        )


def _shape(
    plan: _Plan,
    unpacked: Sequence[Unpacked],
    added: Sequence[tuple[Download, Path]],
    result: Path,
    donor: Donor | None,
) -> tuple[Tree, ModuleSet]:
    """The root's tree and its modules; kernel and initramfs are left in `result`, what it refers to beside it."""
    recipe = plan.recipe
    result.mkdir()
    with plan.progress.step("root tree"):
        tree = package_tree(unpacked)
        modules = ModuleSet.of(tree, result.with_name("modules"), donor.plain if donor else None)
        write_kernel(modules.vmlinuz(), result / KERNEL)
        entries = initramfs_entries(tree, modules, recipe.initramfs_modules, FILES / recipe.initramfs)
        (result / INITRAMFS).write_bytes(write_cpio(entries))
        modules.keep_only(modules.closure(modules.matching(recipe.keep_modules)))
        modules.decompress()
        apply_recipe(tree, recipe, added, result.with_name("added"))
        modules.paths = choose_modules(tree, modules.release)  # the recipe may have brought some, or left none
        index_modules(modules)
    return tree, modules


def _store(
    plan: _Plan,
    tree: Tree,
    modules: ModuleSet,
    unpacked: Sequence[Unpacked],
    added: Sequence[tuple[Download, Path]],
    work: Path,
) -> Image:
    recipe, result, size = plan.recipe, work / "image", tree.size()
    placed: dict[Slice, Place] = {}
    require_space(work, size)
    unpack_unread(tree, plan.progress)
    with (
        plan.progress.task("packing the root image", size, "B") as task,
        disk_full_explained(work),
        (result / ROOT).open("wb") as file,
    ):
        write_erofs(
            tree,
            file,
            time=tree.newest,
            uuid=EROFS_UUID,
            level=recipe.level,
            advance=task.advance,
            placed=placed.__setitem__,
        )
    manifest = {
        "format": FORMAT,
        "name": recipe.name,
        "engine": recipe.engine,
        "rootless": recipe.rootless,
        "arch": plan.arch,
        "suite": plan.suite,
        "date": tree.newest,
        "kernel_release": modules.release,
        "console": recipe.arch(plan.arch).console,
        "cmdline": recipe.cmdline,
        "cmdline_tcg": recipe.cmdline_tcg,
        "recipe": recipe_digest(recipe),
        "packages": describe_packages([item.package for item in unpacked]),
        "packed_by": [packed_by()],
    }
    if added:
        manifest["downloads"] = [one.facts() for one, _ in added]
    if recipe.suites:
        manifest["suites"] = recipe.suites
    with plan.progress.step("storing"):
        manifest["files"] = describe_parts(result)
        image = store_image(result, manifest, plan.cache)
        if not recipe.finish:
            write_origins(image, _facts(recipe), unpacked, placed, modules.plain, work)
    return image


def describe_packages(packages: Sequence[Package]) -> list[dict[str, Any]]:
    """The `packages` section of a manifest."""
    return [
        {"name": p.name, "version": p.version, "arch": p.arch, "sha256": p.sha256, "size": p.size} for p in packages
    ]


def _find_current(plan: _Plan, packages: Sequence[Package]) -> Image | None:
    """The stored image that a build of these packages would make again, if it is sound; every byte of it is read."""
    wanted = {
        "recipe": recipe_digest(plan.recipe),
        "arch": plan.arch,
        "suite": plan.suite,
        "packages": describe_packages(packages),
        "packed_by": [packed_by()],
    }
    for image in list_images(plan.cache):
        if all(image.manifest.get(key) == value for key, value in wanted.items()):
            if (sound := find_sound(plan.cache, image.digest)) is not None:
                return sound
            plan.progress.note(f"image {image.digest[:12]} is damaged and is built again")
    return None
