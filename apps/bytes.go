package apps

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bytes is a string of the operating system: an argument of a program, an environment variable, a
// file name. To most systems these are bytes without an encoding (execve(2), path_resolution(7)),
// while JSON holds characters. In JSON a Bytes is a string if it is valid UTF-8, and {"base64":
// "..."} otherwise. It arrives unchanged or not at all.
type Bytes string

// encoded is the JSON form of Bytes that are not UTF-8.
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

// UnmarshalJSON implements [json.Unmarshaler]. It is an error if the decoder has to replace a part
// of the string by U+FFFD.
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

// String returns b for people: unchanged if it is printable, and otherwise quoted with escapes.
func (b Bytes) String() string {
	if utf8.ValidString(string(b)) && strings.IndexFunc(string(b), func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return string(b)
	}
	return strconv.Quote(string(b))
}

// AllBytes converts strings to Bytes.
func AllBytes(list []string) []Bytes {
	var out []Bytes
	for _, s := range list {
		out = append(out, Bytes(s))
	}
	return out
}

// AllStrings converts Bytes to strings.
func AllStrings(list []Bytes) []string {
	var out []string
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}
