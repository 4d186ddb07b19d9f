# Completion of host-cli for fish: host-cli completions fish | source
function __host_cli_complete
    set -l typed (commandline -opc)
    if set -l found ($typed[1] __complete (commandline -pc | string collect) 2>/dev/null)
        string join -- \n $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c host-cli -f -a '(__host_cli_complete)'
