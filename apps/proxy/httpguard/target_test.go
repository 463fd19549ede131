package httpguard

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzTarget: whatever comes after the authority is what the origin gets.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/a%2Fb|c", "//x|y", "?", "/100%", "///", "//h/p?q"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) || raw != "" && !strings.ContainsAny(raw[:1], "/?#") {
			return
		}
		u := &url.URL{Host: "h"}
		SetTarget(u, "GET", raw)
		got := strings.TrimPrefix(u.RequestURI(), "http://h")
		if want := "/" + strings.TrimPrefix(raw, "/"); got != want {
			t.Fatalf("%q becomes %q", raw, got)
		}
	})
}
