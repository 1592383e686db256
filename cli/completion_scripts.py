"""The completion scripts, one per shell. Each asks `hostvm __complete` and knows no word itself."""

from __future__ import annotations

BASH = r"""# bash completion for hostvm:   source <(hostvm completion bash)
_hostvm_complete() {
    local first answer
    COMPREPLY=()
    answer=$("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null) || return 0
    first=${answer%%$'\n'*}
    if [[ $answer == *$'\n'* ]]; then
        mapfile -t COMPREPLY <<<"${answer#*$'\n'}"
    fi
    case " $first " in *" nospace "*) compopt -o nospace ;; esac
    case " $first " in *" files "*) compopt -o default -o bashdefault ;; esac
    case " $first " in *" dirs "*) compopt -o dirnames ;; esac
}
complete -F _hostvm_complete hostvm
"""

ZSH = r"""#compdef hostvm
# zsh completion for hostvm:   source <(hostvm completion zsh)   # after compinit
_hostvm() {
    local -a lines items
    local line value text switches
    lines=("${(@f)$("${(Q)words[1]}" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
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
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _hostvm "$@"; else compdef _hostvm hostvm; fi
"""

FISH = r"""# fish completion for hostvm:   hostvm completion fish | source
function __hostvm_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape)
    set -l answer ($words[1] __complete fish $words[2..] "$current" 2>/dev/null)
    for line in $answer[2..]
        echo -- $line
    end
    if string match -q '*files*' -- "$answer[1]"
        __fish_complete_path "$current"
    else if string match -q '*dirs*' -- "$answer[1]"
        __fish_complete_directories "$current"
    end
end
complete -c hostvm -f -a '(__hostvm_complete)'
"""

POWERSHELL = r"""# PowerShell completion for hostvm:   hostvm completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName hostvm -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { if ($_.PSObject.Properties['Value']) { $_.Value } else { $_.ToString() } })
    $typed = @($words | Select-Object -Skip 1)
    # PowerShell 5 and 7.2 drop empty arguments of native commands, so an empty word travels as a pair of quotes.
    $current = if ($wordToComplete) { $wordToComplete } else { "''" }
    $answer = @(& $words[0] __complete powershell @typed $current 2>$null)
    $answer | Select-Object -Skip 1 | ForEach-Object {
        $value, $text = $_ -split "`t", 2
        if (-not $text) { $text = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $text)
    }
}
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL}
