package proxy

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/reach"
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

// rawType reads "TYPEn".
func rawType(s string) (dnsmessage.Type, bool) {
	digits, ok := strings.CutPrefix(s, rawPrefix)
	n, err := strconv.ParseUint(digits, 10, 16)
	return dnsmessage.Type(n), ok && err == nil && carried(dnsmessage.Type(n))
}

// raw asks the name servers of this exit for the records of a type. The user may know the name.
func (e *exit) raw(ctx context.Context, d reach.Dest, t dnsmessage.Type) (records, error) {
	got, err := e.sys.query(ctx, d, t)
	if err != nil {
		return records{}, lookupError(d, err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(got); err != nil || !decisive(got) || len(m.Answers)+len(m.Authorities) > maxRecords {
		return records{}, answer.Errorf(answer.DNS, "name %s: the name server of the exit gave no answer that can be passed on", d.Name)
	}
	b, err := kept(m).Pack()
	if err != nil {
		return records{}, answer.Errorf(answer.DNS, "name %s: the answer of the exit's name server cannot be passed on", d.Name)
	}
	return records{Message: b}, nil
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

// query asks the name servers of this device, over UDP and, after an answer that was cut, over TCP.
func (s *system) query(ctx context.Context, d reach.Dest, t dnsmessage.Type) ([]byte, error) {
	servers, _ := s.nameServers()
	name, err := dnsmessage.NewName(d.Name + ".")
	if err != nil {
		return nil, err
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: t, Class: dnsmessage.ClassINET}},
	}
	message, err := q.Pack()
	if err != nil {
		return nil, err
	}
	for _, network := range []string{"udp", "tcp"} {
		got, err := s.servers.ask(ctx, servers, message, network, s.Dial)
		var p dnsmessage.Parser
		if h, _ := p.Start(got); err != nil || !h.Truncated {
			return got, err
		}
	}
	return nil, errNoServer // an answer over TCP that was cut
}

// isMissing reports whether a name does not exist at all. That the resolver finds no address does not say so: a name
// may have records of other types, and a client that hears "no such name" looks for none (RFC 8020). If the name
// servers cannot be asked, or have no answer, it is taken to be missing.
func (s *system) isMissing(ctx context.Context, d reach.Dest) bool {
	got, err := s.query(ctx, d, dnsmessage.TypeA)
	var p dnsmessage.Parser
	h, parseErr := p.Start(got)
	return err != nil || parseErr != nil || h.RCode != dnsmessage.RCodeSuccess
}
