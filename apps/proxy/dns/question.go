package dns

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// question is what a DNS message asks.
type question struct {
	header dnsmessage.Header
	asked  []dnsmessage.Question // one, or none if the message could not be read
	name   dnsmessage.Name
	qtype  dnsmessage.Type
	edns   bool             // the client speaks EDNS(0)
	size   int              // of the largest UDP answer that the client takes
	code   dnsmessage.RCode // why it is not answered; RCodeSuccess if it is
}

var errNoQuestion = errors.New("not a DNS question")

// readQuestion reads a message. An error means that it is not even worth a refusal: an answer, say, which would begin
// an endless conversation.
func readQuestion(message []byte) (question, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response {
		return question{}, errNoQuestion
	}
	q := question{header: h, size: minUDPAnswer}
	if h.OpCode != 0 {
		q.code = dnsmessage.RCodeNotImplemented
		return q, nil
	}
	all, err := p.AllQuestions()
	if err != nil || len(all) != 1 {
		q.code = dnsmessage.RCodeFormatError
		return q, nil
	}
	q.asked, q.name, q.qtype = all, all[0].Name, all[0].Type
	if all[0].Class != dnsmessage.ClassINET {
		q.code = dnsmessage.RCodeRefused
		return q, nil
	}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		q.code = dnsmessage.RCodeFormatError
		return q, nil
	}
	for {
		rh, err := p.AdditionalHeader()
		if err != nil {
			return q, nil
		}
		if rh.Type == dnsmessage.TypeOPT {
			q.edns, q.size = true, min(max(int(rh.Class), minUDPAnswer), maxUDPAnswer)
			return q, nil
		}
		if p.SkipAdditional() != nil {
			return q, nil
		}
	}
}

// reply writes an answer. One that is too long for a datagram is cut and says so: the client comes back over TCP.
func (q question) reply(rec Records, code dnsmessage.RCode, network string) []byte {
	carried, code, err := q.carriedIn(rec, code)
	if err != nil {
		code = dnsmessage.RCodeServerFailure
	}
	b, err := q.build(rec, carried, code, false)
	if err != nil {
		return nil // a name that does not fit a message: there is nothing to say
	}
	if network == "udp" && len(b) > q.size || len(b) > maxMessage {
		b, _ = q.build(Records{}, dnsmessage.Message{}, code, true)
	}
	return b
}

// carriedIn reads the message that an exit gave for an answer, and what that says.
func (q question) carriedIn(rec Records, code dnsmessage.RCode) (m dnsmessage.Message, _ dnsmessage.RCode, err error) {
	switch {
	case code != dnsmessage.RCodeSuccess:
	case rec.Missing:
		code = dnsmessage.RCodeNameError
	case rec.Message != nil:
		if err := m.Unpack(rec.Message); err != nil || !decisive(rec.Message) || len(m.Answers)+len(m.Authorities) > maxRecords {
			return dnsmessage.Message{}, code, errNoQuestion
		}
		return *kept(m), m.RCode, nil
	}
	return m, code, nil
}

func (q question) build(rec Records, carried dnsmessage.Message, code dnsmessage.RCode, cut bool) ([]byte, error) {
	answers, err := q.answers(rec)
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired,
			RecursionAvailable: true, RCode: code, Truncated: cut, CheckingDisabled: q.header.CheckingDisabled,
		},
		Questions: q.asked, Answers: append(answers, carried.Answers...), Authorities: carried.Authorities,
	}
	if q.edns {
		var rh dnsmessage.ResourceHeader
		if err := rh.SetEDNS0(maxUDPAnswer, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		m.Additionals = []dnsmessage.Resource{{Header: rh, Body: &dnsmessage.OPTResource{}}}
	}
	return m.Pack()
}

// answers returns the records of an answer that is no message.
func (q question) answers(rec Records) (out []dnsmessage.Resource, err error) {
	owner := q.name
	add := func(body dnsmessage.ResourceBody) {
		out = append(out, dnsmessage.Resource{Header: record(owner), Body: body})
	}
	if rec.CNAME != "" {
		alias, err := dnsmessage.NewName(rec.CNAME + ".")
		if err != nil {
			return nil, err
		}
		add(&dnsmessage.CNAMEResource{CNAME: alias})
		owner = alias
	}
	for _, a := range rec.Addrs {
		switch {
		case q.qtype == dnsmessage.TypeA && a.Is4():
			add(&dnsmessage.AResource{A: a.As4()})
		case q.qtype == dnsmessage.TypeAAAA && a.Is6():
			add(&dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	for _, s := range rec.SRV {
		target, err := dnsmessage.NewName(s.Target + ".")
		if err != nil {
			return nil, err
		}
		add(&dnsmessage.SRVResource{Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: target})
	}
	return out, nil
}

func record(owner dnsmessage.Name) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: answerLifetime}
}

// sameQuestion reports whether a message answers another one.
func sameQuestion(asked, answer []byte) bool {
	want, ok := onlyQuestion(asked)
	if !ok {
		return false
	}
	got, ok := onlyQuestion(answer)
	return ok && got.Type == want.Type && got.Class == want.Class && strings.EqualFold(got.Name.String(), want.Name.String())
}

func onlyQuestion(message []byte) (dnsmessage.Question, bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return dnsmessage.Question{}, false
	}
	all, err := p.AllQuestions()
	if err != nil || len(all) != 1 {
		return dnsmessage.Question{}, false
	}
	return all[0], true
}

func newID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}
