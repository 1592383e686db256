# Sourced by what mounts the machine's disks, with $disk set to the device.

# A disk counts as blank only if its first 4 MiB hold nothing but zeros: every file system, partition table and
# volume label starts there. And only if there is nothing either where mke2fs puts copies of the superblock, with blocks
# of 1 KiB and of 4: a disk that lost its begin holds data all the same. Whatever is there is somebody's data and is left
# alone.
is_blank() {
	local group place sectors
	cmp -s -n 4194304 $disk /dev/zero || return 1
	read -r sectors < "/sys/class/block/${disk#/dev/}/size"
	[ -z "$(for group in 1 3 5 9 27 81; do
		for place in $((group * 8192 + 1)) $((group * 131072)); do
			# Behind the end dd would read all that is before.
			[ $((place * 2)) -ge "$sectors" ] || dd if=$disk bs=1024 skip=$place count=1 || echo unread
		done
	done 2> /dev/null | tr -d '\000')" ]
}

# make LABEL
make() {
	# A new disk's image reads as zeros all over. Told so, mke2fs writes no empty inode tables, and no thread of the
	# kernel writes them later: 1 GiB of zeros for a disk of 60 GiB, begun while the engine starts.
	/usr/sbin/mke2fs -q -t ext4 -m 1 -L "$1" -E assume_storage_prezeroed=1,nodiscard $disk
}

# complete LABEL: mke2fs writes the first superblock last, so a power cut in the midst of it leaves the copies of it
# alone (where they are depends on the disk's size). With the label that mke2fs was given it is no one else's.
complete() {
	local size place label
	cmp -s -n 4096 $disk /dev/zero || return 1
	for size in 4096 1024; do
		[ $size -eq 4096 ] && place=32768 || place=8193
		label=$({ dd if=$disk bs=$size skip=$place count=1 | dd bs=1 skip=120 count=16; } 2> /dev/null | tr -d '\000')
		[ "$label" = "$(printf %.16s "$1")" ] || continue
		/usr/sbin/e2fsck -y -b $place -B $size $disk > /dev/console 2>&1
		[ $? -le 1 ] && return
	done
	return 1
}

# read_superblock: the ext4 superblock's words. Sets magic, state, fs_bytes (0 when there is none).
read_superblock() {
	set -- $(hexdump -v -s 1024 -n 64 -e '1/4 "%u "' $disk)
	magic=$((${15:-0} & 0xffff))
	state=$((${15:-0} >> 16))
	fs_bytes=$((${2:-0} << (10 + (${7:-0} & 15))))
}

# grow NAME
grow() {
	local sectors
	read -r sectors < "/sys/class/block/${disk#/dev/}/size"
	# Below 64 MiB the difference is only what alignment left over.
	[ $((sectors * 512 - fs_bytes)) -lt 67108864 ] && return
	/usr/sbin/resize2fs $disk > /dev/null 2> "/run/hostvm/resize-$1.log" &&
		mark "$1-grown" || fail "$1-grow" "$(cat "/run/hostvm/resize-$1.log")"
}

# mount_disk NAME LABEL TARGET
mount_disk() {
	[ -b "$disk" ] || { fail "$1" "no disk $disk"; return 1; }
	read_superblock
	if [ $magic -eq 61267 ]; then
		# Bit 1: the kernel met an inconsistency. A journal alone is replayed by the mount itself.
		if [ $((state & 2)) -ne 0 ]; then
			/usr/sbin/e2fsck -p $disk > /dev/console 2>&1
			[ $? -le 1 ] || { fail "$1" "e2fsck needs a decision on $disk"; return 1; }
			mark "$1-repaired"
		fi
	elif is_blank; then
		make "$2" || { fail "$1" "mke2fs failed on $disk"; return 1; }
		mark "$1-made"
		read_superblock
	elif complete "$2"; then
		mark "$1-completed"
		read_superblock
	else
		fail "$1" "$disk holds something that is not ext4; it was left alone"
		return 1
	fi
	mount -t ext4 -o noatime $disk "$3" || { fail "$1" "$disk cannot be mounted"; return 1; }
	grow "$1" &
	mark "$1"
}
