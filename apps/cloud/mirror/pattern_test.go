package mirror

import (
	"strings"
	"testing"
)

func TestPatternsLeaveOutWhatTheySay(t *testing.T) {
	for _, tt := range []struct {
		patterns string
		out, in  string // paths; a slash at the end is a directory
	}{
		{"*.tmp", "a.tmp b/c.tmp .tmp", "a.tmpx tmp b/tmp"},
		{"/a", "a/ a a/b", "b/a"},
		{"a/b", "a/b a/b/c", "x/a/b ab"},
		{"build/", "build/ x/build/ build/o", "build x/build"},
		{"**/x/*.o", "x/a.o b/x/a.o", "x/y/a.o a.o"},
		{"a/**", "a/b a/b/c a/", "b"},
		{"a/**/z", "a/z a/b/z a/b/c/z", "a z"},
		{"?.c", "a.c ü.c", "ab.c .c"},
		{"* !keep !*.txt", "a b/c", "keep a.txt"},
		{"node_modules", "node_modules/ x/node_modules/y", "node_module"},
		{"*a*b*c", "abc xaxbxc aabbcc", "acb ab"},
	} {
		ps := Patterns(strings.Fields(tt.patterns))
		if err := ps.Check(); err != nil {
			t.Errorf("%s: %v", tt.patterns, err)
		}
		for want, paths := range map[bool]string{true: tt.out, false: tt.in} {
			for path := range strings.FieldsSeq(paths) {
				name, isDir := strings.CutSuffix(path, "/")
				if ps.Leaves(name, isDir) != want {
					t.Errorf("%q leaves %q out: %v", tt.patterns, path, !want)
				}
			}
		}
	}
	for _, p := range []string{"", "!", "/", "a//b", "***", strings.Repeat("x", maxPattern+1)} {
		if (Patterns{p}).Check() == nil {
			t.Errorf("%q is taken", p)
		}
	}
}

func TestWhatIsNotIncludedIsLeftOut(t *testing.T) {
	for _, tt := range []struct {
		include, exclude string
		out, in          string
	}{
		{"", "", "", "a b/ b/c"},
		{"*.pdf", "", "a b/c.txt", "a.pdf b/ b/c.pdf"},
		{"docs", "", "a x/y", "docs/ docs/a docs/b/c x/docs/a x/"},
		{"/docs/", "*.tmp", "a x/docs/a docs/x.tmp", "docs/ docs/a docs/b/c"},
		{"a/b", "", "b a/c", "a/ a/b a/b/c"},
	} {
		ps := Leaving(strings.Fields(tt.include), strings.Fields(tt.exclude))
		for want, paths := range map[bool]string{true: tt.out, false: tt.in} {
			for path := range strings.FieldsSeq(paths) {
				name, isDir := strings.CutSuffix(path, "/")
				if ps.Leaves(name, isDir) != want {
					t.Errorf("%q without %q leaves %q out: %v", tt.include, tt.exclude, path, !want)
				}
			}
		}
	}
}

// FuzzPatterns: matching ends, and a pattern without stars matches itself.
func FuzzPatterns(f *testing.F) {
	f.Add("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("**/**/x", "a/b/c")
	f.Add("!?", "ü")
	f.Fuzz(func(t *testing.T, p, path string) {
		ps := Patterns{p}
		if ps.Check() != nil || len(path) > 4096 {
			return
		}
		ps.Leaves(path, false)
		if plain := strings.Trim(p, "/"); !strings.ContainsAny(p, "*?!") && plain != "" && !ps.Leaves(plain, true) {
			t.Errorf("%q does not match itself", p)
		}
	})
}
