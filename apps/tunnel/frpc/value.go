package frpc

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value reads what stands behind the sign of equality.
func (r *reader) value(depth int) (any, error) {
	switch {
	case depth > maxDepth:
		return nil, errors.New("too many arrays and tables in one another")
	case strings.HasPrefix(r.text[r.at:], `"""`), strings.HasPrefix(r.text[r.at:], "'''"):
		return nil, errors.New("a string of several lines is not read here: write it in one")
	case r.peek('"'), r.peek('\''):
		return r.quoted()
	case r.skip("["):
		return r.array(depth)
	case r.skip("{"):
		return r.inline(depth)
	}
	word := r.word(func(c byte) bool { return isAlnum(c) || strings.IndexByte("+-_.:", c) >= 0 })
	switch word {
	case "true", "false":
		return word == "true", nil
	case "":
		return nil, fmt.Errorf("%q where a value should be", r.rest())
	}
	return number(word)
}

// number reads a decimal number.
func number(word string) (any, error) {
	refused := fmt.Errorf("%s is not read here: want a text in quotes, a decimal number, true or false", word)
	digits := strings.TrimLeft(word, "+-")
	if len(word)-len(digits) > 1 || digits == "" || digits[0] < '0' || digits[0] > '9' || strings.Contains(word, "_") {
		return nil, refused
	}
	if len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		return nil, refused
	}
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, nil
	}
	if strings.ContainsAny(word, "xXpP:") || strings.HasSuffix(word, ".") {
		return nil, refused
	}
	f, err := strconv.ParseFloat(word, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, refused
	}
	return f, nil
}

// array reads what follows a bracket. Its elements may be on lines of their own.
func (r *reader) array(depth int) (any, error) {
	list := []any{}
	for {
		if r.blank(true); r.skip("]") {
			return list, nil
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if r.blank(true); !r.skip(",") && !r.peek(']') {
			return nil, fmt.Errorf("%q in an array", r.rest())
		}
	}
}

// inline reads what follows a brace: a table in one line.
func (r *reader) inline(depth int) (any, error) {
	t := table{}
	own := &reader{text: r.text, at: r.at, root: t, closed: map[string]bool{}}
	defer func() { r.at = own.at }()
	if own.blank(false); own.skip("}") {
		return t, nil
	}
	for {
		if err := own.pair(t, "", depth+1); err != nil {
			return nil, err
		}
		own.blank(false)
		if own.skip("}") {
			return t, nil
		}
		if !own.skip(",") {
			return nil, fmt.Errorf("%q in a table", own.rest())
		}
	}
}

// quoted reads a string of one line: 'as it stands' or "with escapes".
func (r *reader) quoted() (string, error) {
	quote := r.text[r.at]
	r.at++
	var b strings.Builder
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch {
		case c == quote:
			return b.String(), nil
		case c < ' ' && c != '\t', c == 0x7f:
			r.at--
			return "", errors.New("a string without its closing quote")
		case c == '\\' && quote == '"':
			if err := r.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a string without its closing quote")
}

// escape reads what follows a backslash.
func (r *reader) escape(b *strings.Builder) error {
	if r.at == len(r.text) {
		return errors.New("a string without its closing quote")
	}
	c := r.text[r.at]
	r.at++
	if i := strings.IndexByte(`btnfr"\`, c); i >= 0 {
		b.WriteByte("\b\t\n\f\r\"\\"[i])
		return nil
	}
	digits := map[byte]int{'u': 4, 'U': 8}[c]
	if digits == 0 || len(r.text)-r.at < digits {
		return fmt.Errorf("\\%c is not an escape of TOML", c)
	}
	n, err := strconv.ParseUint(r.text[r.at:r.at+digits], 16, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return fmt.Errorf("\\%c%s is not a character", c, r.text[r.at:r.at+digits])
	}
	r.at += digits
	b.WriteRune(rune(n))
	return nil
}

// blank passes over blanks and a comment, and with lines over lines of them.
func (r *reader) blank(lines bool) {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == ' ' || c == '\t', lines && c == '\n', lines && strings.HasPrefix(r.text[r.at:], "\r\n"):
			r.at++
		case c == '#':
			for r.at < len(r.text) && r.text[r.at] != '\n' && !strings.HasPrefix(r.text[r.at:], "\r\n") {
				r.at++
			}
		default:
			return
		}
	}
}

func (r *reader) peek(c byte) bool { return r.at < len(r.text) && r.text[r.at] == c }

func (r *reader) skip(s string) bool {
	if !strings.HasPrefix(r.text[r.at:], s) {
		return false
	}
	r.at += len(s)
	return true
}

// word reads bytes of a kind.
func (r *reader) word(of func(byte) bool) string {
	begin := r.at
	for r.at < len(r.text) && of(r.text[r.at]) {
		r.at++
	}
	return r.text[begin:r.at]
}

// rest is the beginning of what was not understood.
func (r *reader) rest() string {
	rest, _, _ := strings.Cut(r.text[r.at:], "\n")
	if len(rest) > 20 {
		rest = strings.ToValidUTF8(rest[:20], "") + "..."
	}
	return rest
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
