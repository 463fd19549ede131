package regexp

import (
	"regexp"
	"testing"
)

func FuzzItReplacesWhatTheOriginalDoes(f *testing.F) {
	for _, s := range []string{"", "name", "name, n", "a b,c", ", x", " ,\n,b\n\nc d\n", "é, è", "\n", "a,\n"} {
		f.Add(s)
	}
	original, ours := regexp.MustCompile(fromComma), MustCompile(fromComma)
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := ours.ReplaceAllString(s, "!"), original.ReplaceAllString(s, "!"); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	})
}

func TestAnotherExpressionEndsTheProgram(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it is accepted")
		}
	}()
	MustCompile("a+")
}
