package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ztm/apps"
)

func TestTable(t *testing.T) {
	full := &apps.Table{Header: []string{"NAME", "USER", "ID"}, Rows: [][]string{{"a", "root", "1"}, {"längst", "", "2"}}, Wide: 1}
	for _, tt := range []struct {
		name  string
		table *apps.Table
		wide  bool
		want  string
	}{
		{"narrow", full, false, "NAME    USER\na       root\nlängst\n"},
		{"wide", full, true, "NAME    USER  ID\na       root  1\nlängst        2\n"},
		{"no rows", &apps.Table{Header: []string{"NAME"}}, false, "NAME\n"},
		{"no header", &apps.Table{Rows: [][]string{{"Name:", "a"}, {"Long name:", "b"}}}, false, "Name:       a\nLong name:  b\n"},
		{"nothing", &apps.Table{}, false, ""},
		{"nil", nil, false, ""},
		{"ragged", &apps.Table{Rows: [][]string{{"a"}, {"b", "c"}}, Wide: 3}, false, "\n\n"},
		{"hostile", &apps.Table{Rows: [][]string{{"a\nb\x1b[0m\u202e", "c"}}}, false, "a?b?[0m?  c\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(table(tt.table, tt.wide))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzFormats checks that whatever a name is, JSON and YAML give it back, and no format writes to
// the terminal.
func FuzzFormats(f *testing.F) {
	for _, s := range []string{"", "a", "yes", "1e3", "0x1f", "~", "null", "- a", "a: b", "#", "\x1b[2J", "\u202e", "\u2028", "\U000e0001", "\n", " a", "'\"", "\x7f", "2001-01-01", "<<", "=", "\ufeff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &s); err != nil { // valid UTF-8 from here on
			t.Fatal(err)
		}
		in := map[string][]string{s: {s, "x"}}
		text, err := marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out map[string][]string
		if err := json.Unmarshal(text, &out); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("JSON %q: %v, %q", text, err, out)
		}
		quiet(t, text)
		if text, err = toYAML(in); err != nil {
			t.Fatal(err)
		}
		out = nil
		if err := yaml.Unmarshal(text, &out); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("YAML %q: %v, %q", text, err, out)
		}
		quiet(t, text)
		text = table(&apps.Table{Header: []string{s}, Rows: [][]string{{s, s}}}, false)
		if bytes.Count(text, []byte("\n")) != 2 {
			t.Errorf("table %q has not two lines", text)
		}
		quiet(t, text)
	})
}

func quiet(t *testing.T, text []byte) {
	t.Helper()
	if s := string(bytes.ReplaceAll(text, []byte("\n"), nil)); apps.Printable(s) != s {
		t.Errorf("%q would write to the terminal", text)
	}
}

func TestYAMLKeepsTheOrderAndTheTypes(t *testing.T) {
	b, err := toYAML(struct {
		Z string   `json:"z"`
		A int      `json:"a"`
		N *int     `json:"n"`
		B bool     `json:"b"`
		F float64  `json:"f"`
		L []string `json:"l"`
		M struct{} `json:"m"`
		Y string   `json:"y"`
	}{Z: "1", A: 1, B: true, F: 1.5, L: []string{}, Y: "yes"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("z: \"1\"\na: 1\n\"n\": null\nb: true\nf: 1.5\nl: []\nm: {}\n\"y\": \"yes\"\n", string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	c := New(Config{Stdout: full{}})
	if err := c.Print(nil, &apps.Table{Header: []string{"NAME"}}); err == nil {
		t.Error("the failure was lost")
	}
}
