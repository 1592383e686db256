"""The completion scripts, one per shell. Each asks `hostvm __complete` and knows no word itself.

They are for the launchers of `hostvm shim install` too, which stand in place of @SHIMS@. A launcher hands every word to
the engine's own program, so it is asked by another word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Without anything that bash 3.2 lacks, which is macOS's: no mapfile, no `source <(...)`, compopt only where it is.
BASH = r"""# bash completion for hostvm:   eval "$(hostvm completion bash)"
_hostvm_complete() {
    local first answer line ask=__complete
    case ${1##*/} in docker | docker-compose | podman | nerdctl) ask=__hostvm_complete ;; esac
    COMPREPLY=()
    answer=$("$1" "$ask" bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null) || return 0
    first=${answer%%$'\n'*}
    if [[ $answer == *$'\n'* ]]; then
        while IFS= read -r line; do COMPREPLY+=("$line"); done <<<"${answer#*$'\n'}"
    fi
    type compopt >/dev/null 2>&1 || return 0
    case " $first " in *" nospace "*) compopt -o nospace ;; esac
    case " $first " in *" files "*) compopt -o default -o bashdefault ;; esac
    case " $first " in *" dirs "*) compopt -o dirnames ;; esac
}
if type compopt >/dev/null 2>&1; then
    complete -F _hostvm_complete hostvm@SHIMS@
else
    complete -o bashdefault -o default -F _hostvm_complete hostvm@SHIMS@
fi
"""

ZSH = r"""#compdef hostvm@SHIMS@
# zsh completion for hostvm:   source <(hostvm completion zsh)   # after compinit
_hostvm() {
    local -a lines items
    local line value text switches ask=__complete
    case ${${(Q)words[1]}:t} in docker|docker-compose|podman|nerdctl) ask=__hostvm_complete ;; esac
    lines=("${(@f)$("${(Q)words[1]}" $ask zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    switches=" $lines[1] "
    for line in "${(@)lines[2,-1]}"; do
        [[ -n $line ]] || continue
        value=${line%%$'\t'*}
        text=${line#*$'\t'}
        [[ $line == *$'\t'* ]] || text=
        items+=("${value//:/\\:}${text:+:$text}")
    done
    if (( $#items )); then
        if [[ $switches == *" nospace "* ]]; then _describe -V hostvm items -S ''; else _describe hostvm items; fi
    fi
    [[ $switches == *" files "* ]] && _files
    [[ $switches == *" dirs "* ]] && _files -/
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _hostvm "$@"; else compdef _hostvm hostvm@SHIMS@; fi
"""

FISH = r"""# fish completion for hostvm:   hostvm completion fish | source
function __hostvm_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape)
    set -l ask __complete
    if contains -- (string replace -r '.*/' '' -- $words[1]) docker docker-compose podman nerdctl
        set ask __hostvm_complete
    end
    set -l answer ($words[1] $ask fish $words[2..] "$current" 2>/dev/null)
    for line in $answer[2..]
        echo -- $line
    end
    if string match -q '*files*' -- "$answer[1]"
        __fish_complete_path "$current"
    else if string match -q '*dirs*' -- "$answer[1]"
        __fish_complete_directories "$current"
    end
end
for name in hostvm@SHIMS@
    complete -c $name -f -a '(__hostvm_complete)'
end
"""

POWERSHELL = r"""# PowerShell completion for hostvm:   hostvm completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName ('hostvm@SHIMS@' -split ' ') -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { if ($_.PSObject.Properties['Value']) { $_.Value } else { $_.ToString() } })
    $typed = @($words | Select-Object -Skip 1)
    # PowerShell 5 and 7.2 drop empty arguments of native commands, so an empty word travels as a pair of quotes.
    $current = if ($wordToComplete) { $wordToComplete } else { "''" }
    $shims = 'docker', 'docker-compose', 'podman', 'nerdctl'
    $ask = if ($shims -contains ($words[0] -replace '\.cmd$')) { '__hostvm_complete' } else { '__complete' }
    $answer = @(& $words[0] $ask powershell @typed $current 2>$null)
    $answer | Select-Object -Skip 1 | ForEach-Object {
        $value, $text = $_ -split "`t", 2
        if (-not $text) { $text = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $text)
    }
}
"""

_SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL}


def completion_script(shell: str, shims: Sequence[str] = ()) -> str:
    """The script for `bash`, `zsh`, `fish` or `powershell`.

    :param shims: launchers of ours that it is for besides, as they are typed.
    """
    return _SCRIPTS[shell].replace("@SHIMS@", "".join(f" {shim}" for shim in shims))
