# Completion of host-cli for bash: source <(host-cli completions bash)
_host_cli() {
    local line=${COMP_LINE:0:COMP_POINT} found word typed prefix
    COMPREPLY=()
    if ! found=$("${COMP_WORDS[0]}" __complete "$line" 2>/dev/null); then
        compopt -o default
        return
    fi
    # bash replaces only what follows the last : or = of the word.
    typed=${line##* }
    prefix=${typed%"${typed##*[:=]}"}
    while IFS= read -r word; do
        [[ $word ]] && COMPREPLY+=("${word#"$prefix"}")
    done <<<"$found"
    # A directory may be continued.
    [[ ${#COMPREPLY[@]} == 1 && $found == */ ]] && compopt -o nospace
}
complete -o filenames -F _host_cli host-cli
