package service

import "strings"

// shell quotes a word for sh.
func shell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:,@+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// shellLine quotes words for sh.
func shellLine(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shell(w)
	}
	return strings.Join(out, " ")
}

// unit quotes a word for a line of a systemd unit, against quotes, backslashes, specifiers and
// variables.
func unit(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(word) + `"`
}

// unitLine quotes words for ExecStart.
func unitLine(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = unit(w)
	}
	return strings.Join(out, " ")
}

// xmlText escapes text for an XML file, as encoding/xml does.
func xmlText(s string) string {
	return strings.NewReplacer(`"`, "&#34;", "'", "&#39;", "&", "&amp;", "<", "&lt;", ">", "&gt;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;").Replace(s)
}
