package dns

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"ztm/tunnel/answer"
)

// Records other than addresses, aliases and services (TXT, MX, NS, CAA, HTTPS, ...) are not judged one by one: the
// question goes to the exit's name servers, for a name that the exit serves, and their answer comes back as a message.
//
//	entrance: type TYPEn -> exit: question -> name servers -> answer, without addresses and additional records -> client
//
// So a client also gets the SOA record that a "no" needs to be believed and kept (RFC 2308 sections 2 and 5).

const (
	rawPrefix  = "TYPE" // RFC 3597 section 5
	maxRecords = 256    // of an answer that is carried
)

// carried reports whether questions of a type may go to an exit: not those for addresses, which the policy judges, nor
// zone transfers and other types that are no records (RFC 6895 section 3.1), nor those of 1987 whose records cannot be
// copied.
func carried(t dnsmessage.Type) bool {
	switch t {
	case 0, dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME, dnsmessage.TypeSRV, dnsmessage.TypeOPT:
		return false
	case 3, 4, 7, 8, 9, 14: // MD MF MB MG MR MINFO: they may point into the message (RFC 3597 section 4)
		return false
	}
	return t < 128 || t > 255
}

// CarriedType reads "TYPEn".
func CarriedType(s string) (dnsmessage.Type, bool) {
	digits, ok := strings.CutPrefix(s, rawPrefix)
	n, err := strconv.ParseUint(digits, 10, 16)
	return dnsmessage.Type(n), ok && err == nil && carried(dnsmessage.Type(n))
}

// kept returns of an answer what is carried.
func kept(m dnsmessage.Message) *dnsmessage.Message {
	isAddress := func(r dnsmessage.Resource) bool {
		return r.Header.Type == dnsmessage.TypeA || r.Header.Type == dnsmessage.TypeAAAA || r.Header.Type == dnsmessage.TypeOPT
	}
	return &dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true, RCode: m.RCode},
		Questions: m.Questions,
		Answers:   slices.DeleteFunc(m.Answers, isAddress),
		Authorities: slices.DeleteFunc(m.Authorities, func(r dnsmessage.Resource) bool {
			return r.Header.Type != dnsmessage.TypeSOA
		}),
	}
}

// KindOf returns how a type is written in a question to an exit: "A", "AAAA", "CNAME", "SRV" or "TYPEn".
func KindOf(t dnsmessage.Type) (string, error) {
	switch t {
	case dnsmessage.TypeA:
		return "A", nil
	case dnsmessage.TypeAAAA:
		return "AAAA", nil
	case dnsmessage.TypeCNAME:
		return "CNAME", nil
	case dnsmessage.TypeSRV:
		return "SRV", nil
	}
	if !carried(t) {
		return "", answer.Errorf(answer.BadRequest, "type %d is not asked of an exit", t)
	}
	return rawPrefix + strconv.Itoa(int(t)), nil
}

// Carry returns of an answer to TYPEn what is carried.
func Carry(got []byte) (Records, error) {
	var m dnsmessage.Message
	if err := m.Unpack(got); err != nil {
		return Records{}, err
	}
	if !decisive(got) || len(m.Answers)+len(m.Authorities) > maxRecords {
		return Records{}, errUnusable
	}
	b, err := kept(m).Pack()
	return Records{Message: b}, err
}

var errUnusable = errors.New("the answer says nothing of the name, or too much")

// Records is what a name resolves to at an exit: the answer to "resolve". If the name exists but has nothing of the
// type that was asked for, everything is empty.
type Records struct {
	Missing bool         `json:"missing,omitempty"` // there is no such name
	CNAME   string       `json:"cname,omitempty"`   // the name that has the records, if it is another one
	Addrs   []netip.Addr `json:"addrs,omitempty"`
	SRV     []SRV        `json:"srv,omitempty"`
	Message []byte       `json:"message,omitempty"` // the answer to TYPEn, as a DNS message; then all else is empty
}

// SRV is a record of RFC 2782.
type SRV struct {
	Priority uint16 `json:"priority"`
	Weight   uint16 `json:"weight"`
	Port     uint16 `json:"port"`
	Target   string `json:"target"`
}
