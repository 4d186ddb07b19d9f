#compdef host-cli
# Completion of host-cli for zsh: source <(host-cli completions zsh), or a file _host-cli in a directory of fpath.
_host-cli() {
    local found
    local -a all dirs names
    if ! found=$($words[1] __complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null); then
        _files
        return
    fi
    all=(${(f)found})
    dirs=(${(M)all:#*/})
    names=(${all:#*/})
    # A directory may be continued.
    (( $#dirs )) && compadd -S '' -a dirs
    (( $#names )) && compadd -a names
}
if [ "$funcstack[1]" = "_host-cli" ]; then
    _host-cli "$@"
else
    compdef _host-cli host-cli
fi
