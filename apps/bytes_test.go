package apps

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzBytes: bytes come back from JSON as they were, and text looks in it as text does.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{"", "a b", "caf\xe9.txt", "größe", "\ufffd", "\xff\x00", "\xed\xa0\x80", "<&>\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(Bytes(s))
		if err != nil {
			t.Fatal(err)
		}
		var got Bytes
		if err := json.Unmarshal(text, &got); err != nil || string(got) != s {
			t.Errorf("%q became %s and then %q, %v", s, text, string(got), err)
		}
		plain, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(s) && string(plain) != string(text) {
			t.Errorf("%q is %s, want %s", s, text, plain)
		}
		if !utf8.ValidString(got.String()) {
			t.Errorf("%q cannot be read by people: %q", s, got.String())
		}
	})
}

func TestTextThatJSONCannotHoldIsRefusedNotRepaired(t *testing.T) {
	for _, text := range []string{"\"a\xff\"", `"\ud800"`, `"\udc00x"`, `"\ufffd\ud800"`, `{}`, `{"base64":"%"}`, `[1]`, `1`} {
		var b Bytes = "before"
		if err := json.Unmarshal([]byte(text), &b); err == nil {
			t.Errorf("%q was taken for %q", text, string(b))
		}
	}
	for text, want := range map[string]Bytes{`"\ufffd"`: "\ufffd", `"\uFFFD"`: "\ufffd", `"\ud83d\ude00"`: "😀", `null`: "before", `{"base64":""}`: "", `{"base64":"/w=="}`: "\xff"} {
		var b Bytes = "before"
		if err := json.Unmarshal([]byte(text), &b); err != nil || b != want {
			t.Errorf("%s is %q, %v; want %q", text, string(b), err, string(want))
		}
	}
}
