// Package shellwords writes words so that a shell, or a program on Windows, reads each of them as it
// was: whatever is in them, it is neither split nor expanded nor run.
package shellwords

import (
	"runtime"
	"strings"
)

// Here writes words for the shell of this machine: the command that a person is shown, to be copied.
// What others wrote goes through apps.Printable first.
func Here(words ...string) string {
	if runtime.GOOS == "windows" {
		return each(words, prompt)
	}
	return POSIX(words...)
}

// POSIX writes words for sh and the shells that follow it.
func POSIX(words ...string) string { return each(words, posix) }

// Windows writes words by the rules by which programs on Windows split their command line.
func Windows(words ...string) string { return each(words, windows) }

func each(words []string, quote func(string) string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}

// posix quotes a word unless all of it is plain. An = at the beginning is not: zsh takes what follows
// for the name of a program.
func posix(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:,@+", r)
	}
	if word != "" && word[0] != '=' && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// prompt quotes a word unless all of it is plain, for cmd as well as for PowerShell, as it is not known
// which of them a person has. Neither runs any of it. A word with a quote, a $, a ` or a %NAME% may come
// out as another one.
func prompt(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`-_=./\:+`, r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return quoted(word, func(r rune) string {
		switch r {
		case '"': // two do not end what is quoted, in neither of them
			return `"`
		case '$', '`', '“', '”', '„': // PowerShell expands the first, and takes the last three for quotes
			return "`"
		}
		return ""
	})
}

// windows quotes a word that has a space or a quote.
func windows(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"") {
		return word
	}
	return quoted(word, func(r rune) string {
		if r == '"' {
			return `\`
		}
		return ""
	})
}

// quoted puts a word in quotes, and before each rune what escape says. Backslashes before a quote count
// double.
func quoted(word string, escape func(rune) string) string {
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for _, r := range word {
		if r == '"' {
			b.WriteString(strings.Repeat(`\`, slashes))
		}
		b.WriteString(escape(r))
		b.WriteRune(r)
		if slashes++; r != '\\' {
			slashes = 0
		}
	}
	b.WriteString(strings.Repeat(`\`, slashes) + `"`)
	return b.String()
}
