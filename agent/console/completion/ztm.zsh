#compdef ztm
# Completion of ztm for zsh. In ~/.zshrc, after compinit:  source <(ztm completion zsh)
# Or as a file:  ztm completion zsh > "${fpath[1]}/_ztm"

_ztm() {
    local line word usage
    local -a found
    for line in "${(@f)$(ztm __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
        '') ;;
        :files) _files; return ;;
        :dirs) _files -/; return ;;
        *)
            word=${line%%$'\t'*}
            usage=${line#$word}
            found+=("${word//:/\\:}${usage:+:${usage#$'\t'}}")
            ;;
        esac
    done
    (( $#found )) && _describe -V ztm found
}

if [[ $funcstack[1] == _ztm ]]; then
    _ztm "$@"
else
    compdef _ztm ztm
fi
