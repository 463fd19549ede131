//go:build !ztm_router && !ztm_omit_js

package script

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// Arguments, variables and names of files are bytes, and a string of JavaScript is UTF-16. A byte
// that is no part of a character in UTF-8 becomes a lone surrogate, U+DC80 to U+DCFF, and that byte
// again on its way back, as in Python (PEP 383).
const escaped = 0xdc00

// toJS returns a string of the system as one of JavaScript.
func toJS(s string) goja.Value {
	var units []uint16
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			units = append(units, escaped+uint16(s[0]))
		} else {
			units = utf16.AppendRune(units, r)
		}
		s = s[size:]
	}
	return goja.StringFromUTF16(units)
}

// fromJS returns a value of JavaScript, as a string, to the system. A lone surrogate that stands
// for no byte becomes U+FFFD.
func fromJS(v goja.Value) string {
	text, ok := v.ToString().(goja.String)
	if !ok {
		return v.String()
	}
	var out []byte
	for i := 0; i < text.Length(); i++ {
		u := rune(text.CharAt(i))
		switch {
		case utf16.IsSurrogate(u) && u < escaped && i+1 < text.Length():
			if r := utf16.DecodeRune(u, rune(text.CharAt(i+1))); r != utf8.RuneError {
				out = utf8.AppendRune(out, r)
				i++
				continue
			}
			out = utf8.AppendRune(out, utf8.RuneError)
		case u >= escaped+0x80 && u <= escaped+0xff:
			out = append(out, byte(u-escaped))
		default:
			out = utf8.AppendRune(out, u)
		}
	}
	return string(out)
}
