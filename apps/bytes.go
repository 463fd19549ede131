package apps

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bytes is a string of the operating system: an argument of a program, a variable, the name of a file. To most systems these are
// bytes without a meaning (execve(2), path_resolution(7)), and JSON can hold characters alone. In JSON it is a string if it is valid
// UTF-8, and else {"base64": "..."}: it arrives as it was sent, or not at all.
type Bytes string

// encoded is the form of what is no UTF-8.
type encoded struct {
	Base64 *[]byte `json:"base64"`
}

// MarshalJSON implements [json.Marshaler].
func (b Bytes) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(b)) {
		return json.Marshal(string(b))
	}
	raw := []byte(b)
	return json.Marshal(encoded{&raw})
}

var errBytes = errors.New(`want a string of Unicode characters, or {"base64": "..."}`)

// UnmarshalJSON implements [json.Unmarshaler]. A string that the decoder could only repair, with U+FFFD in the place of what it did not
// understand, is an error.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var e encoded
		if err := json.Unmarshal(text, &e); err != nil || e.Base64 == nil {
			return errBytes
		}
		*b = Bytes(*e.Base64)
		return nil
	}
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || !utf8.Valid(text) {
		return errBytes
	}
	if s == nil {
		return nil // null changes nothing, as for other types
	}
	meant := strings.Count(string(text), "\ufffd") + strings.Count(strings.ToLower(string(text)), `\ufffd`)
	if strings.Count(*s, "\ufffd") > meant {
		return errBytes // half of a surrogate pair
	}
	*b = Bytes(*s)
	return nil
}

// String returns b as people can read it: as it is if it can be printed, and else quoted, with escapes.
func (b Bytes) String() string {
	if utf8.ValidString(string(b)) && strings.IndexFunc(string(b), func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return string(b)
	}
	return strconv.Quote(string(b))
}

// AllBytes returns strings as Bytes.
func AllBytes(list []string) []Bytes {
	var out []Bytes
	for _, s := range list {
		out = append(out, Bytes(s))
	}
	return out
}

// AllStrings returns the strings that AllBytes was given.
func AllStrings(list []Bytes) []string {
	var out []string
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}
