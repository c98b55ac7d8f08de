"""Scripts that make bash, zsh and fish ask `ncsnx __complete`. Candidates are words, and are never evaluated."""

BASH = r"""
_ncsnx_complete() {
    local line word
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            compopt -o default 2>/dev/null
            continue
        fi
        word=${line%%$'\t'*}
        [[ $word == *[=/] ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("$word")
    done < <("$1" __complete bash "${COMP_LINE:0:$COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
}
complete -F _ncsnx_complete ncsnx
"""
ZSH = r"""
_ncsnx_complete() {
    local line files=0
    local -a found shown open open_shown
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            files=1
        elif [[ ${line%%$'\t'*} == *[=/] ]]; then
            open+=("${line%%$'\t'*}"); open_shown+=("${line%%$'\t'*}  ${line#*$'\t'}")
        else
            found+=("${line%%$'\t'*}"); shown+=("${line%%$'\t'*}  ${line#*$'\t'}")
        fi
    done < <("${words[1]}" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( $#found )) && compadd -l -d shown -a found
    (( $#open )) && compadd -S '' -l -d open_shown -a open
    (( files )) && _files
}
compdef _ncsnx_complete ncsnx
"""
FISH = r"""
function __ncsnx_complete
    set -l words (commandline -opc)
    for line in ($words[1] __complete fish $words[2..-1] (commandline -ct) 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            printf '%s\n' $line
        end
    end
end
complete -c ncsnx -f -a '(__ncsnx_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
"""Shell → its script."""
