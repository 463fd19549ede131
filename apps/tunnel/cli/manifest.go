package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"ztm/apps/tunnel/spec"
	"ztm/tunnel/identity"
)

// Manifest is tunnels as a file: what `ztm tunnel export` prints and `ztm apply` reads.
type Manifest struct {
	Tunnels []ManifestTunnel `json:"tunnels"`
	Allow   []ManifestAllow  `json:"allow,omitempty"`
}

// ManifestTunnel is the ends of a tunnel at the user's own endpoints. Endpoints are given by name
// or ID.
type ManifestTunnel struct {
	Name     string             `json:"name"` // "tcp/web"
	Inbound  []ManifestInbound  `json:"inbound,omitempty"`
	Outbound []ManifestOutbound `json:"outbound,omitempty"`
	Others   []string           `json:"others,omitempty"` // endpoints of other users that offer it; apply ignores them
}

// ManifestInbound is an inbound and where it is.
type ManifestInbound struct {
	Endpoint string `json:"endpoint"`
	spec.InboundSpec
}

// ManifestOutbound is an outbound and where it is.
type ManifestOutbound struct {
	Endpoint string `json:"endpoint"`
	spec.OutboundSpec
}

// ManifestAllow is a rule and where it is.
type ManifestAllow struct {
	Endpoint string `json:"endpoint"`
	spec.Allow
}

// users returns all users who get access.
func (m Manifest) users() []string {
	var list []string
	for _, t := range m.Tunnels {
		for _, o := range t.Outbound {
			list = append(list, o.Users...)
		}
	}
	for _, rule := range m.Allow {
		list = append(list, rule.Users...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// maxManifest bounds what is read of a manifest, in bytes.
const maxManifest = 4 << 20

// readManifest reads manifests, one or several: in YAML, of which JSON is a part, or in JSON alone
// where YAML was left out. A field that it does not know is an error.
func readManifest(r io.Reader) (Manifest, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return Manifest{}, err
	}
	if len(b) > maxManifest {
		return Manifest{}, fmt.Errorf("more than %d bytes", maxManifest)
	}
	var all Manifest
	for d := newDocuments(bytes.NewReader(b)); ; {
		var tree any
		if err := d.Decode(&tree); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return Manifest{}, err
		}
		m, err := manifestOf(tree)
		if err != nil {
			return Manifest{}, err
		}
		all.Tunnels = append(all.Tunnels, m.Tunnels...)
		all.Allow = append(all.Allow, m.Allow...)
	}
}

// manifestOf goes through JSON, so that there is one description of the fields.
func manifestOf(tree any) (Manifest, error) {
	b, err := json.Marshal(tree)
	if err != nil {
		return Manifest{}, errors.New("a key is not a text")
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return m, manifestError(d.Decode(&m))
}

// manifestError says for a person, who may have written YAML, what is wrong with a file.
func manifestError(err error) error {
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &typ):
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	case typ.Field == "":
		return errors.New("it has no list of tunnels: `ztm tunnel export` prints what such a file looks like")
	}
	field := slices.DeleteFunc(strings.Split(typ.Field, "."), func(name string) bool { return unicode.IsUpper(rune(name[0])) }) // names of our types
	return fmt.Errorf("%s cannot be a %s", strings.Join(field, "."), typ.Value)
}

// renamed returns IDs with the names that a function gives them.
func renamed(ids []identity.ID, name func(identity.ID) string) []identity.ID {
	var list []identity.ID
	for _, id := range ids {
		list = append(list, identity.ID(name(id)))
	}
	return list
}
