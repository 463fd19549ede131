//go:build !ztm_router && !ztm_omit_yaml

package console

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"

	"ztm/apps"
)

// toYAML renders v as YAML with the names and the order of its JSON, so that the two formats differ
// in looks alone.
func toYAML(v any) ([]byte, error) {
	in, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	node, err := yamlNode(dec)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return escape(out.Bytes(), func(r rune) string { return fmt.Sprintf(`\U%08x`, r) }), nil
}

// yamlNode makes a node of the next JSON value.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if t == '{' {
			n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		for dec.More() { // in a mapping, names and values alternate in both forms
			child, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return text(t)
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: t.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(t)}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}

// text makes a node of a string. The library quotes what would not be a string to some reader:
// "yes", "1e3". What must not reach a terminal as it is gets quotes too, in which there are
// escapes.
func text(s string) (*yaml.Node, error) {
	n := &yaml.Node{}
	if err := n.Encode(s); err != nil {
		return nil, err
	}
	if apps.Printable(s) != s {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n, nil
}
