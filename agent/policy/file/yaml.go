//go:build !ztm_router && !ztm_omit_yaml

package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
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
