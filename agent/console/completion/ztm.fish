# Completion of ztm for fish:  ztm completion fish > ~/.config/fish/completions/ztm.fish

function __ztm_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -e words[1]
    for line in (ztm __complete -- $words "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case :dirs
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end

complete -c ztm -f -k -a '(__ztm_complete)'
