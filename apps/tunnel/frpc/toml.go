package frpc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The part of TOML 1.0 that configurations of frpc use: tables, arrays of tables, dotted and quoted
// keys, strings of one line, decimal numbers, booleans, arrays and inline tables. The rest is
// refused by name: strings of several lines, dates, other bases.

const (
	maxFile  = 1 << 20 // bytes of a file
	maxDepth = 16      // arrays and tables in one another, and parts of a key
)

// table is a table of TOML. Its values are string, int64, float64, bool, []any and table.
type table map[string]any

// reader reads a document from left to right.
type reader struct {
	text   string
	at     int
	root   table
	here   table           // that keys of this line belong to
	closed map[string]bool // headers that were seen, and inline tables: nothing is added to them
	path   string          // of here, as in closed
}

// parseTOML reads a document. An error says in which line it is.
func parseTOML(text string) (table, error) {
	switch {
	case len(text) > maxFile:
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	case !utf8.ValidString(text):
		return nil, errors.New("it is not UTF-8")
	}
	root := table{}
	r := &reader{text: strings.TrimPrefix(text, "\ufeff"), root: root, here: root, closed: map[string]bool{}}
	for {
		r.blank(true)
		if r.at == len(r.text) {
			return root, nil
		}
		if err := r.line(); err != nil {
			return nil, fmt.Errorf("line %d: %w", 1+strings.Count(r.text[:r.at], "\n"), err)
		}
	}
}

// line reads a header or a key with its value, and what may stand behind.
func (r *reader) line() error {
	err := error(nil)
	if r.text[r.at] == '[' {
		err = r.header()
	} else {
		err = r.pair(r.here, r.path, 0)
	}
	if err != nil {
		return err
	}
	r.blank(false)
	if r.at < len(r.text) && !r.skip("\n") && !r.skip("\r\n") {
		return fmt.Errorf("%q where the line should end", r.rest())
	}
	return nil
}

// header reads [a.b] or [[a.b]] and goes to that table.
func (r *reader) header() error {
	many := r.skip("[[")
	if !many {
		r.skip("[")
	}
	keys, err := r.key()
	if err != nil {
		return err
	}
	if !r.skip(map[bool]string{false: "]", true: "]]"}[many]) {
		return errors.New("a header without its closing bracket")
	}
	last := len(keys) - 1
	parent, path, err := r.descend(r.root, "", keys[:last])
	if err != nil {
		return err
	}
	if many {
		return r.next(parent, path, keys[last])
	}
	r.here, r.path, err = r.descend(parent, path, keys[last:])
	if err == nil && r.closed[r.path] {
		return fmt.Errorf("table %s is there twice", strings.Join(keys, "."))
	}
	r.closed[r.path] = true
	return err
}

// next begins the next element of an array of tables.
func (r *reader) next(parent table, path, key string) error {
	var list []any
	switch v := parent[key].(type) {
	case nil:
	case []any:
		if list = v; len(list) > 0 && r.closed[joined(path, key)] {
			return fmt.Errorf("%s is an array already", key)
		}
	default:
		return fmt.Errorf("%s is there twice", key)
	}
	r.here = table{}
	parent[key] = append(list, r.here)
	r.path = joined(path, key) + element(len(list))
	return nil
}

// descend goes along keys and makes tables that are not there. In an array of tables it goes to the
// last one.
func (r *reader) descend(t table, path string, keys []string) (table, string, error) {
	for _, k := range keys {
		path = joined(path, k)
		switch v := t[k].(type) {
		case nil:
			next := table{}
			t[k], t = next, next
		case table:
			t = v
		case []any:
			last, ok := any(nil), false
			if len(v) > 0 {
				last = v[len(v)-1]
			}
			if t, ok = last.(table); !ok || r.closed[path] {
				return nil, "", fmt.Errorf("%s is not a table", k)
			}
			path += element(len(v) - 1)
		default:
			return nil, "", fmt.Errorf("%s is not a table", k)
		}
	}
	return t, path, nil
}

// joined is the path of a key. A key may contain a dot, but no zero byte.
func joined(path, key string) string { return path + "\x00" + key }

// element is what the path of an element has behind that of its array.
func element(i int) string { return "\x00\x00" + strconv.Itoa(i) }

// pair reads KEY = VALUE into a table.
func (r *reader) pair(t table, path string, depth int) error {
	keys, err := r.key()
	if err != nil {
		return err
	}
	if !r.skip("=") {
		return fmt.Errorf("%q where = should be", r.rest())
	}
	r.blank(false)
	v, err := r.value(depth)
	if err != nil {
		return err
	}
	last := len(keys) - 1
	if t, path, err = r.descend(t, path, keys[:last]); err != nil {
		return err
	}
	if _, there := t[keys[last]]; there || last > 0 && r.closed[path] {
		return fmt.Errorf("%s is there twice", strings.Join(keys, "."))
	}
	t[keys[last]] = v
	r.closed[joined(path, keys[last])] = true
	return nil
}

// key reads a key with its dots, and the blanks around it.
func (r *reader) key() ([]string, error) {
	var keys []string
	for len(keys) < maxDepth {
		r.blank(false)
		var part string
		var err error
		if r.peek('"') || r.peek('\'') {
			part, err = r.quoted()
		} else {
			part = r.word(func(c byte) bool { return c == '-' || c == '_' || isAlnum(c) })
			if part == "" {
				err = fmt.Errorf("%q where a key should be", r.rest())
			}
		}
		if err != nil {
			return nil, err
		}
		if strings.Contains(part, "\x00") {
			return nil, errors.New("a key with a zero byte")
		}
		keys = append(keys, part)
		r.blank(false)
		if !r.skip(".") {
			return keys, nil
		}
	}
	return nil, errors.New("a key with too many parts")
}
