package service

import "strings"

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
