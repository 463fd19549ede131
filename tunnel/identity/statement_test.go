package identity

import (
	"strings"
	"testing"
	"time"
)

const statementContext = "ztm test statement v1"

type said struct {
	Text string `json:"text"`
}

func TestAStatementHoldsWhileItsEndpointIsAwayAndNotWhenItsUserWasEvicted(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	bob, carol, mallory := m.member(t, "bob", start), m.member(t, "carol", start), m.member(t, "mallory", start)
	hub, foreign := m.hub(t, start), other.member(t, "bob", start)
	m.evict(t, "carol", start)
	v := NewVerifier(m.trust, NewClock(start.Add(3*year))) // all certificates have expired
	sign := func(context string, d device) []byte { return must(SignStatement(context, said{"ü<"}, d.key))(t) }
	var got said
	if s, err := v.Statement(statementContext, sign(statementContext, bob), bob.der, &got); err != nil || s.ID != bob.id || s.User != "bob" || got.Text != "ü<" {
		t.Fatalf("got %+v of %+v, %v", got, s, err)
	}
	doc := sign(statementContext, bob)
	for name, tt := range map[string]struct {
		doc, cert []byte
		kind      error
	}{
		"of an evicted user":   {sign(statementContext, carol), carol.der, ErrEvicted},
		"of another mesh":      {sign(statementContext, foreign), foreign.der, ErrWrongMesh},
		"of a hub":             {sign(statementContext, hub), hub.der, ErrWrongRole},
		"by another key":       {sign(statementContext, mallory), bob.der, ErrStatement},
		"of another kind":      {sign("ztm test other v1", bob), bob.der, ErrStatement},
		"a record":             {must(SignRecord(recordOf(bob), bob.key))(t), bob.der, ErrStatement},
		"without certificate":  {doc, nil, ErrStatement},
		"with a changed byte":  {[]byte(strings.Replace(string(doc), "ü", "ö", 1)), bob.der, ErrStatement},
		"with a space":         {[]byte(strings.Replace(string(doc), ",", ", ", 1)), bob.der, ErrStatement},
		"with an unknown part": {[]byte(strings.Replace(string(doc), `{"text"`, `{"x":1,"text"`, 1)), bob.der, ErrStatement},
		"that is too large":    {make([]byte, MaxStatement+1), bob.der, ErrStatement},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Statement(statementContext, tt.doc, tt.cert, &said{})
			wantError(t, err, tt.kind, "")
		})
	}
}

func TestAStatementUnderARetiredCAIsRefused(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	doc := must(SignStatement(statementContext, said{"x"}, bob.key))(t)
	next := must(m.ca.Successor(start))(t)
	trust := must(m.trust.Rotate(m.ca, next, start.Add(day), start))(t)
	before := NewVerifier(trust, NewClock(start.Add(time.Hour)))
	if _, err := before.Statement(statementContext, doc, bob.der, &said{}); err != nil {
		t.Error(err)
	}
	after := NewVerifier(trust, NewClock(start.Add(2*day)))
	_, err := after.Statement(statementContext, doc, bob.der, &said{})
	wantError(t, err, ErrExpired, "")
}

func TestAStatementOfTooManyBytesIsNotSigned(t *testing.T) {
	_, err := SignStatement(statementContext, said{strings.Repeat("x", MaxStatement)}, newDevice(t).key)
	wantError(t, err, ErrStatement, "larger")
}
