# Completion of ztm for bash. In ~/.bashrc:  source <(ztm completion bash)

_ztm() {
    local ztm=${COMP_WORDS[0]} rest word before line path cur keep='' i
    local -a words=()

    # Readline takes words apart at ':' and '=' too. Put those together between which there is no space.
    rest=${COMP_LINE#*"$ztm"}
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        before=$rest
        if [[ -n $word ]]; then
            before=${rest%%"$word"*}
            rest=${rest#*"$word"}
        fi
        if [[ -z $before && ${#words[@]} -gt 0 ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done

    # Readline replaces what stands behind the last of them.
    cur=${words[${#words[@]} - 1]}
    if [[ $cur == *[:=]* ]]; then
        keep=${cur%"${cur##*[:=]}"}
    fi

    type -P -- "$ztm" >/dev/null || ztm=ztm
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        case $line in
        :files | :dirs)
            compopt -o filenames 2>/dev/null
            while IFS= read -r path; do
                COMPREPLY+=("$path")
            done < <(if [[ $line == :dirs ]]; then compgen -d -- "${cur#"$keep"}"; else compgen -f -- "${cur#"$keep"}"; fi)
            ;;
        *)
            if [[ $line == *: ]]; then
                compopt -o nospace 2>/dev/null # a path follows
            fi
            COMPREPLY+=("${line#"$keep"}")
            ;;
        esac
    done < <("$ztm" __complete -- "${words[@]}" 2>/dev/null)
}

complete -F _ztm ztm
