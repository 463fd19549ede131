//go:build !ztm_router && !ztm_omit_yaml

package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// maxDepth is deeper than a policy is.
const maxDepth = 16

// parse reads YAML, of which JSON is a part, into nodes. What makes a file mean something else than a
// person sees in it is refused: anchors, tags, several documents.
func parse(b []byte) (*node, error) {
	if len(b) > MaxFile || !utf8.Valid(b) {
		return nil, fmt.Errorf("it has more than %d bytes, or is no text in UTF-8", MaxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("it holds no document")
	}
	return convert(doc.Content[0], 0)
}

// boolean is what is a truth value to readers of YAML 1.1, and a name to those of YAML 1.2.
var boolean = map[string]bool{"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true}

func convert(y *yaml.Node, depth int) (*node, error) {
	n := &node{line: y.Line, text: y.Value}
	switch {
	case depth > maxDepth:
		return nil, wrongf(y.Line, "it is nested too deeply")
	case y.Anchor != "" || y.Kind == yaml.AliasNode:
		return nil, wrongf(y.Line, "anchors and aliases are not taken: write it out")
	case y.Style&yaml.TaggedStyle != 0:
		return nil, wrongf(y.Line, "tags such as %s are not taken", y.Tag)
	}
	switch y.Kind {
	case yaml.ScalarNode:
		if n.kind = word; y.ShortTag() == "!!str" && (y.Style != 0 || !boolean[strings.ToLower(y.Value)]) {
			n.kind = text
		}
	case yaml.SequenceNode:
		n.kind = list
		for _, c := range y.Content {
			item, err := convert(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case yaml.MappingNode:
		n.kind = mapping
		for i := 0; i+1 < len(y.Content); i += 2 {
			key, err := convert(y.Content[i], depth+1)
			if err != nil {
				return nil, err
			}
			if key.kind != text {
				return nil, wrongf(key.line, "the name %s is no text: write it in quotes", key.text)
			}
			value, err := convert(y.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			n.pairs = append(n.pairs, pair{key.text, key.line, value})
		}
	default:
		return nil, wrongf(y.Line, "it is not understood")
	}
	return n, nil
}

// Write returns a policy of a version as a file, without tests, which are in no policy. [Read] reads
// it.
func Write(s *policy.Source, version uint64) ([]byte, error) {
	out := document{Kind: Kind, Base: version, Mode: s.Mode, Direct: s.Direct, Users: map[string]ending{}, Groups: map[string]group{}, Endpoints: map[string]endpoint{}, Grants: []grant{}}
	for name, u := range s.Users {
		out.Users[name] = ending{timeOf(u.Until)}
	}
	for name, g := range s.Groups {
		w := group{Members: []any{}, Notify: g.Notify, Visible: g.Visible}
		if g.Max > 0 {
			w.Max = g.Longest().String()
		}
		for _, m := range g.Members {
			if m.Until == 0 {
				w.Members = append(w.Members, m.User)
			} else {
				w.Members = append(w.Members, member{m.User, timeOf(m.Until)})
			}
		}
		out.Groups[name] = w
	}
	for name, e := range s.Endpoints {
		out.Endpoints[name] = endpoint{string(e.ID), e.Labels}
	}
	for _, g := range s.Grants {
		w := grant{Name: g.Name, To: g.To, At: g.At, From: g.From, Until: timeOf(g.Until)}
		for _, who := range g.Who {
			w.Who = append(w.Who, who.Name)
		}
		out.Grants = append(out.Grants, w)
	}
	return yaml.Marshal(out)
}

func timeOf(seconds unixtime.Seconds) string {
	if seconds == 0 {
		return ""
	}
	return seconds.Time().UTC().Format(time.RFC3339)
}

// The parts of a file as they are written.
type (
	document struct {
		Kind      string              `yaml:"ztm"`
		Base      uint64              `yaml:"base"`
		Mode      string              `yaml:"mode,omitempty"`
		Direct    string              `yaml:"direct,omitempty"`
		Users     map[string]ending   `yaml:"users"`
		Groups    map[string]group    `yaml:"groups"`
		Endpoints map[string]endpoint `yaml:"endpoints"`
		Grants    []grant             `yaml:"grants"`
	}
	ending struct {
		Until string `yaml:"until,omitempty"`
	}
	group struct {
		Members []any  `yaml:"members,flow"`
		Max     string `yaml:"max,omitempty"`
		Notify  bool   `yaml:"notify,omitempty"`
		Visible string `yaml:"visible,omitempty"`
	}
	member struct {
		User  string `yaml:"user"`
		Until string `yaml:"until"`
	}
	endpoint struct {
		ID     string   `yaml:"id"`
		Labels []string `yaml:"labels,omitempty,flow"`
	}
	grant struct {
		Name  string   `yaml:"name"`
		Who   []string `yaml:"who,flow"`
		To    []string `yaml:"to,flow"`
		At    []string `yaml:"at,flow"`
		From  []string `yaml:"from,flow"`
		Until string   `yaml:"until,omitempty"`
	}
)
