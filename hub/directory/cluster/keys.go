package cluster

import (
	"encoding/json"
	"strings"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// schema is the version of what follows. A hub refuses an etcd with a newer one.
const schema = 1

// The keys below /ztm/v1/MESH/:
//
//	meta             whose etcd this is: see begin.go
//	name/NAME        who has a name, or for whom it is kept
//	ep/ID            the record of an endpoint, as it signed it
//	trust/head       which trust list counts: see trust.go
//	trust/doc/SUM/N  a piece of a list
//	token/NONCE      a join token that was used, or is void
//	restored         when it was noticed that this store came from a backup
//	live/ID          a hub that has said so in the last 10 s: a hint for people
//
// None is written on a timer but the lease of the last, and none by a flow.
const (
	metaKey  = "meta"
	namePart = "name/"
	epPart   = "ep/"
	headKey  = "trust/head"
	docPart  = "trust/doc/"
	tokPart  = "token/"
	backKey  = "restored"
	livePart = "live/"
)

func prefixOf(mesh identity.ID) string { return "/ztm/v1/" + string(mesh) + "/" }

func (d *Directory) nameKey(name string) string  { return d.prefix + namePart + name }
func (d *Directory) epKey(id identity.ID) string { return d.prefix + epPart + string(id) }

// holder is the value of a name: the endpoint that has it, or the user for whom it is kept.
type holder struct {
	ID    identity.ID      `json:"id,omitempty"`
	User  string           `json:"user,omitempty"`
	Until unixtime.Seconds `json:"until,omitempty"`
}

func (h holder) bytes() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // it is made of strings and a number
	}
	return b
}

// maxHolder is the most bytes of the value of a name.
const maxHolder = 1 << 10

// parseHolder reads the value of a name. What is not one holds the name against everybody, as
// nobody knows whose it is.
func parseHolder(b []byte) (h holder, ok bool) {
	if len(b) > maxHolder || json.Unmarshal(b, &h) != nil {
		return holder{}, false
	}
	if h.ID != "" {
		_, err := identity.ParseID(string(h.ID))
		return h, err == nil && h.User == ""
	}
	return h, identity.CheckName(h.User) == nil
}

// parse returns what a key is of: a name, or an endpoint. Other keys are neither.
func (d *Directory) parse(key string) (name string, id identity.ID) {
	rest, ok := strings.CutPrefix(key, d.prefix)
	if !ok {
		return "", ""
	}
	if name, ok := strings.CutPrefix(rest, namePart); ok && identity.CheckName(name) == nil {
		return name, ""
	}
	if text, ok := strings.CutPrefix(rest, epPart); ok {
		if id, err := identity.ParseID(text); err == nil {
			return "", id
		}
	}
	return "", ""
}
