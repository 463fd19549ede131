package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference says in words what is other in a value than it was, for the audit log: of a list what came
// and what went, of anything else what it was and is. It is for values that have no secrets. "" is no
// difference.
func Difference(before, after any) string {
	var out []string
	differ(&out, "", tree(before), tree(after))
	return strings.Join(out, "; ")
}

// tree is a value as its JSON has it.
func tree(v any) (out any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("settings: internal error: " + err.Error()) // it could not be saved
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // sizes in bytes are longer than a float64 shows
	d.Decode(&out)
	return out
}

// differ adds what is other in a field, or in those below it.
func differ(out *[]string, name string, before, after any) {
	was, _ := before.(map[string]any)
	is, fields := after.(map[string]any)
	if fields || was != nil {
		all := maps.Clone(was)
		if all == nil {
			all = map[string]any{}
		}
		maps.Copy(all, is)
		for _, field := range slices.Sorted(maps.Keys(all)) {
			differ(out, strings.TrimSpace(name+" "+field), was[field], is[field])
		}
		return
	}
	old, _ := before.([]any)
	list, isList := after.([]any)
	switch a, b := text(before), text(after); {
	case a == b:
	case !isList && old == nil:
		*out = append(*out, name+": "+a+" -> "+b)
	default:
		*out = append(*out, name+":"+changes(old, list))
	}
}

// changes says what has gone from a list, and what has come.
func changes(before, after []any) string {
	was, is := texts(before), texts(after)
	var b strings.Builder
	for _, t := range was {
		if !slices.Contains(is, t) {
			b.WriteString(" -" + t)
		}
	}
	for _, t := range is {
		if !slices.Contains(was, t) {
			b.WriteString(" +" + t)
		}
	}
	if b.Len() == 0 {
		return " in another order"
	}
	return b.String()
}

func texts(list []any) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

// text is a value in words.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case []any:
		return strings.Join(texts(v), ",")
	case map[string]any:
		var out []string
		for _, field := range slices.Sorted(maps.Keys(v)) {
			out = append(out, field+" "+text(v[field]))
		}
		return "(" + strings.Join(out, ", ") + ")"
	}
	return fmt.Sprint(v)
}
