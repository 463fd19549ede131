// Package dnstest has name servers for tests.
package dnstest

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxMessage   = 65535 // bytes
	minUDPAnswer = 512   // bytes: a longer answer is cut
)

// Respond makes the answer to a question: its code and its records. Nil is silence.
type Respond func(dnsmessage.Question) *dnsmessage.Message

// Serve runs a name server over UDP and TCP, on one port, until the end of the test. asked counts the questions.
func Serve(t testing.TB, respond Respond) (address string, asked *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	var work sync.WaitGroup
	work.Go(func() {
		serveUDP(pc, func(message []byte, reply func([]byte)) {
			asked.Add(1)
			if b := answer(t, message, respond); len(b) > minUDPAnswer {
				reply(cut(t, message))
			} else if b != nil {
				reply(b)
			}
		})
	})
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			serveTCP(t, c, respond)
		}
	})
	t.Cleanup(func() { ln.Close(); pc.Close(); work.Wait() })
	return ln.Addr().String(), asked
}

// ServeForged runs a name server over UDP whose answers come after forgeries: of another ID, and of another question.
func ServeForged(t testing.TB, respond Respond) (address string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveUDP(pc, func(message []byte, reply func([]byte)) {
			good := answer(t, message, respond)
			wrong := append([]byte(nil), good...)
			binary.BigEndian.PutUint16(wrong, binary.BigEndian.Uint16(wrong)+1)
			reply(wrong)
			var m dnsmessage.Message
			if err := m.Unpack(good); err != nil {
				t.Error(err)
				return
			}
			m.Questions[0].Name = dnsmessage.MustNewName("forged.example.")
			b, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			reply(b)
			reply([]byte("x"))
			reply(good)
		})
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().String()
}

func serveUDP(pc net.PacketConn, handle func(message []byte, reply func([]byte))) {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		handle(buf[:n], func(b []byte) { pc.WriteTo(b, from) })
	}
}

func serveTCP(t testing.TB, c net.Conn, respond Respond) {
	defer c.Close()
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, message); err != nil {
		return
	}
	b := answer(t, message, respond)
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
}

// answer returns the answer to a message, nil for silence.
func answer(t testing.TB, message []byte, respond Respond) []byte {
	var asked dnsmessage.Message
	if err := asked.Unpack(message); err != nil || len(asked.Questions) != 1 {
		return nil
	}
	m := respond(asked.Questions[0])
	if m == nil {
		return nil
	}
	out := *m
	out.ID, out.Response, out.Questions = asked.ID, true, asked.Questions
	b, err := out.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// cut is the answer that says: ask again over TCP.
func cut(t testing.TB, message []byte) []byte {
	return answer(t, message, func(dnsmessage.Question) *dnsmessage.Message {
		return &dnsmessage.Message{Header: dnsmessage.Header{Truncated: true}}
	})
}

// Failing answers every question with a code.
func Failing(code dnsmessage.RCode) Respond {
	return func(dnsmessage.Question) *dnsmessage.Message {
		return &dnsmessage.Message{Header: dnsmessage.Header{RCode: code}}
	}
}

// Silent answers nothing.
func Silent(dnsmessage.Question) *dnsmessage.Message { return nil }

// Address answers every question for an IPv4 address with this one, and says of other types that there are none.
func Address(a [4]byte) Respond {
	return func(q dnsmessage.Question) *dnsmessage.Message {
		m := &dnsmessage.Message{}
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 300}, Body: &dnsmessage.AResource{A: a},
			}}
		}
		return m
	}
}

// Zone answers with what is known of example.com, and says no like a server that may be believed.
func Zone(q dnsmessage.Question) *dnsmessage.Message {
	m := &dnsmessage.Message{}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 300}
	name := strings.ToLower(q.Name.String())
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	switch {
	case !strings.HasSuffix(name, "mail.example.com."):
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeTXT:
		add(&dnsmessage.TXTResource{TXT: []string{"v=spf1 -all"}})
	case q.Type == dnsmessage.TypeMX:
		add(&dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mx.example.com.")})
		glue := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("mx.example.com."), Class: q.Class, Type: dnsmessage.TypeA, TTL: 300}
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: glue, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}})
	case q.Type == dnsmessage.TypeNS:
		add(&dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.example.com.")})
	case q.Type == 257: // CAA
		add(&dnsmessage.UnknownResource{Type: 257, Data: append([]byte{0, 5}, "issueca.example.net"...)})
	case q.Type == 99:
		for range 20 {
			add(&dnsmessage.UnknownResource{Type: 99, Data: make([]byte, 100)})
		}
	}
	if len(m.Answers) == 0 {
		header.Name, header.Type = dnsmessage.MustNewName("example.com."), dnsmessage.TypeSOA
		m.Authorities = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("ns.example.com."), MBox: dnsmessage.MustNewName("root.example.com."), Serial: 1, MinTTL: 60,
		}}}
	}
	return m
}
