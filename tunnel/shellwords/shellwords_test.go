package shellwords

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// odd is words that a shell would take for something else.
var odd = []string{"", "a b", "'", `"$HOME" \ $(x) ` + "`y`", "*", "[::1]:80", "~", "=ls", "--name=<v>;&|", "a\tb", "ü", "!!", "{a,b}", "#x", "%1"}

func TestWordsSurviveTheShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no sh here")
	}
	out, err := exec.Command("sh", "-c", `for w in `+POSIX(odd...)+`; do printf '%s\n' "$w"; done`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Join(odd, "\n")+"\n", string(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWordsThatNeedNoQuotesHaveNone(t *testing.T) {
	for in, want := range map[string]string{
		"/users/a/b.txt": "/users/a/b.txt", "a@b:8080,c+d=e_f-g": "a@b:8080,c+d=e_f-g",
		"/a b": "'/a b'", "/a'b;rm": `'/a'\''b;rm'`, "/$x": "'/$x'", "": "''", "=ls": "'=ls'",
	} {
		if got := POSIX(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestWordsForWindows(t *testing.T) {
	for in, want := range map[string]string{
		`C:\ztm.exe`: `C:\ztm.exe`, `C:\Program Files\ztm.exe`: `"C:\Program Files\ztm.exe"`, "": `""`,
		`a "b"`: `"a \"b\""`, `dir with\`: `"dir with\\"`, `x\" y`: `"x\\\" y"`,
	} {
		if got := Windows(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// splitWindows splits a command line as CommandLineToArgvW does the words after the first.
func splitWindows(line string) (words []string) {
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		var word strings.Builder
		quoted := false
		for line != "" && (quoted || line[0] != ' ' && line[0] != '\t') {
			rest := strings.TrimLeft(line, `\`)
			slashes := len(line) - len(rest)
			if !strings.HasPrefix(rest, `"`) {
				word.WriteString(line[:max(slashes, 1)])
				line = line[max(slashes, 1):]
				continue
			}
			word.WriteString(strings.Repeat(`\`, slashes/2))
			if slashes%2 == 1 {
				word.WriteByte('"')
			} else {
				quoted = !quoted
			}
			line = rest[1:]
		}
		words = append(words, word.String())
	}
	return words
}

// readsOne reports whether cmd and PowerShell take a line for one word: what stands outside of quotes
// means nothing to them, and nothing within quotes ends them or is expanded by PowerShell.
func readsOne(line string) bool {
	quoted, left := false, []rune(line)
	for i := 0; i < len(left); i++ { // cmd: each quote begins or ends what is quoted
		if left[i] == '"' {
			quoted = !quoted
		} else if !quoted && strings.ContainsRune(" \t&|<>^()@,;%!'`$#{}~*?[]“”„‘’‚‛", left[i]) {
			return false
		}
	}
	if quoted || !strings.HasPrefix(line, `"`) {
		return !quoted
	}
	for i := 1; i < len(left); i++ {
		switch left[i] {
		case '`':
			i++
		case '$':
			return false
		case '"', '“', '”', '„':
			if i == len(left)-1 {
				return left[i] == '"'
			}
			if i++; left[i] != '"' {
				return false
			}
		}
	}
	return false
}

func FuzzAWordIsOneWordInEachShellOfWindows(f *testing.F) {
	for _, w := range append(odd, "a&calc", "a;calc", "$(calc)", `a"&calc"`, `\";calc;"`, "`", "a`\"b", "a”;calc;“", `dir\`, "a,b", "@x") {
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if got := prompt(word); !readsOne(got) {
			t.Errorf("%q is written as %s", word, got)
		}
	})
}

func TestAPlainWordIsTypedAsItIs(t *testing.T) {
	for in, want := range map[string]string{
		`C:\ztm\a.json`: `C:\ztm\a.json`, "/users/bob/a.txt": "/users/bob/a.txt", "": `""`, `C:\my files\`: `"C:\my files\\"`, "a&b": `"a&b"`,
	} {
		if got := prompt(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// splitPOSIX splits a command line as sh does one that has nothing but plain words and single quotes,
// and reports false for anything that sh would read as more.
func splitPOSIX(line string) (words []string, ok bool) {
	for line != "" {
		var word strings.Builder
		for line != "" && line[0] != ' ' {
			switch {
			case line[0] == '\'':
				inside, rest, closed := strings.Cut(line[1:], "'")
				if !closed {
					return nil, false
				}
				word.WriteString(inside)
				line = rest
			case strings.HasPrefix(line, `\'`):
				word.WriteByte('\'')
				line = line[2:]
			case strings.ContainsRune("\\\"$`*?[]{}()<>|&;#~!%^\t\n\r\x00", rune(line[0])):
				return nil, false
			default:
				word.WriteByte(line[0])
				line = line[1:]
			}
		}
		words = append(words, word.String())
		line = strings.TrimPrefix(line, " ")
	}
	return words, true
}

func FuzzWordsComeBackAsTheyWere(f *testing.F) {
	for _, w := range odd {
		f.Add(w, `x\" y\`)
	}
	f.Add(" \xc5", "\x80")
	f.Fuzz(func(t *testing.T, a, b string) {
		want := []string{a, b, "end"}
		if got, ok := splitPOSIX(POSIX(want...)); !ok || !cmp.Equal(want, got) {
			t.Errorf("sh reads %q as %q", want, got)
		}
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			return // a command line of Windows is UTF-16
		}
		if got := splitWindows(Windows(want...)); !cmp.Equal(want, got) {
			t.Errorf("Windows reads %q as %q", want, got)
		}
	})
}
