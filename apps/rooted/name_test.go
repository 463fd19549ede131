package rooted

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestAPathFromAPeerIsCanonicalOrRefused(t *testing.T) {
	for _, s := range []string{"a", "a/b", "...", "..a", "a..", "ü/日本", "a b", " ", "-rf", "100%", "50%25", "a%2Fb", "ztm", ".zt", "~", "ab:c", "1:2",
		strings.Repeat("x", 255), strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 255)+"/", 16), "/")} {
		p, err := ParsePath(s)
		if err != nil || string(p.Bytes()) != s {
			t.Errorf("%q is read as %q, %v", s, p.Bytes(), err)
		}
	}
	for _, s := range []string{
		"../x", "/x", "a/../../x", "a//x", "a/./x", `..\x`, "C:x", "a\x00b", "..", ".", "./x", "x/", "/", "//", "a/..", "a/.",
		"%2e%2e/x", "..%2fx", "%2e%2e%2fx", "%252e%252e%252fx", "%2fx", "a%2f..%2f..%2fx", "a%2f%2fx", "a%00b", "..%5cx", "C%3ax", "%25252e%25252e%25252fx",
		".ztm", ".ZTM", ".ztm-x", "a/.ztm/agent.db", ".z\u200ctm", ".Ztm", "ZTM~1", ".ztm%2fx", "a\nb", "a\x1b[2Jb", "\x7f", "a\u0085b", "\xff", "a\\b",
		strings.Repeat("x", 256), strings.Repeat("x/", 2048) + "x",
	} {
		if p, err := ParsePath(s); !errors.Is(err, ErrName) || !p.IsRoot() {
			t.Errorf("%q is read as %q, %v", s, p.Bytes(), err)
		}
	}
}

func TestAPathOfThisMachineMayHaveAnyBytes(t *testing.T) {
	for _, s := range []string{"\xff\xfe", "a\nb", `a\b`, "C:x", "%2e%2e%2fx"} {
		if _, err := LocalPath(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"..", "a/../b", "/a", "a//b", "a\x00", ".ztm/x", "a/"} {
		if _, err := LocalPath(s); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", s, err)
		}
		if _, err := LocalName(s); !errors.Is(err, ErrName) {
			t.Errorf("the name %q: %v", s, err)
		}
	}
}

func TestAPathComesApartAndTogether(t *testing.T) {
	for _, s := range []string{"a", "a/b", "a/b/c"} {
		p, _ := ParsePath(s)
		dir, n := p.Split()
		if again, err := dir.Join(n); again != p || err != nil || string(n.Bytes()) != path.Base(s) {
			t.Errorf("%s comes apart as %v and %v, and together as %v, %v", s, dir, n, again, err)
		}
	}
	long, _ := ParsePath(strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 255)+"/", 16), "/"))
	if _, err := long.Join(Name{"y"}); !errors.Is(err, ErrName) {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestANameCannotMoveTheCursor(t *testing.T) {
	for s, want := range map[string]string{"a\x1b[2Jb": `"a\x1b[2Jb"`, "a\u202etxt.exe": `"a\u202etxt.exe"`, "a\r\nb": `"a\r\nb"`, "\xff": `"\xff"`, "ü": "ü", "": "."} {
		if p, err := LocalPath(s); err != nil || p.String() != want {
			t.Errorf("%q is printed as %s, %v; want %s", s, p, err, want)
		}
	}
	if _, err := ParsePath("a\x1b[2J"); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the error is %q", err)
	}
	if n, _ := LocalName("a\nb"); n.String() != `"a\nb"` {
		t.Errorf("the name is printed as %s", n)
	}
}

func TestWhatASystemCannotWriteIsSaidToBeSo(t *testing.T) {
	for _, tt := range []struct {
		goos, name string
		fails      bool
	}{
		{"linux", "CON", false}, {"linux", "a:b\\c?", false}, {"linux", "\xff", false},
		{"darwin", "CON", false}, {"darwin", "\xff", true}, {"freebsd", "\xff", false},
		{"windows", "CON", true}, {"windows", "con.txt", true}, {"windows", "COM1", true}, {"windows", "lpt9.x", true}, {"windows", "COM¹", true},
		{"windows", "aux .c", true}, {"windows", "COM10", false}, {"windows", "COM", false}, {"windows", "console", false}, {"windows", "NUL", true},
		{"windows", "a:b", true}, {"windows", "a?", true}, {"windows", "a.", true}, {"windows", "a ", true}, {"windows", `a\b`, true}, {"windows", "a\x01", true},
		{"windows", "\xff", true}, {"windows", "ü.txt", false}, {"windows", " a", false},
	} {
		n, err := LocalName(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := representable(tt.goos, n); errors.Is(err, ErrNotHere) != tt.fails || (err != nil) != tt.fails {
			t.Errorf("%q on %s: %v", tt.name, tt.goos, err)
		}
	}
	if err := representable("linux", Name{}); !errors.Is(err, ErrName) {
		t.Errorf("the zero name: %v", err)
	}
}

// FuzzPath: what is accepted is local, canonical, and accepted again as it is.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "a/./b", "%2e%2e", "..\\x", ".ztm", "a\x00", "ü", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		local, lerr := LocalPath(s)
		strict, err := ParsePath(s)
		if err == nil && (lerr != nil || strict != local) {
			t.Errorf("%q is strictly %v, and locally %v, %v", s, strict, local, lerr)
		}
		if lerr != nil || s == "" {
			return
		}
		if string(local.Bytes()) != s || path.Clean(s) != s || !filepath.IsLocal(s) && filepath.Separator == '/' {
			t.Errorf("%q was accepted", s)
		}
		joined := Path{}
		for n := range local.names {
			if _, err := LocalName(n.s); err != nil {
				t.Errorf("%q has the segment %q: %v", s, n.s, err)
			}
			if joined, err = joined.Join(n); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		if joined != local {
			t.Errorf("%q comes together as %v", s, joined)
		}
		for _, r := range local.String() {
			if r < ' ' || r == 0x7f || r == 0x202e {
				t.Errorf("%q is printed as %q", s, local.String())
			}
		}
	})
}

func TestANameIsFoundInTheFormThatTheDiskHasMadeOfIt(t *testing.T) {
	composed, apart, upper := Name{"caf\u00e9"}, Name{"cafe\u0301"}, Name{"CAF\u00c9"}
	for _, tt := range []struct {
		have Name
		same bool
		want bool
	}{{composed, true, true}, {apart, true, Form(composed.s) == Form(apart.s)}, {apart, false, false}, {upper, true, false}} {
		if got := amongForms([]Name{{"x"}, tt.have}, composed, func(Name) bool { return tt.same }); got != tt.want {
			t.Errorf("%q, the same file %v: %v", tt.have.s, tt.same, got)
		}
	}
}
