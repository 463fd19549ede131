package identity

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// recordOf returns a record that a device could sign.
func recordOf(d device) Record {
	return Record{
		ID: d.id, Name: "laptop", Labels: []string{"home", "größer <1>"}, Offers: []string{"tunnel/tcp/web"},
		Version: "v1.0", Signer: true, Time: unixtime.MillisOf(start), Certificate: d.der,
	}
}

func TestRecordSurvivesSigning(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	v := m.verifier()
	for name, want := range map[string]Record{
		"full":  recordOf(bob),
		"small": {ID: bob.id, Name: "x", Certificate: bob.der},
	} {
		doc := must(SignRecord(want, bob.key))(t)
		got, s, err := v.Record(doc)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: record (-want +got):\n%s", name, diff)
		}
		if s.ID != bob.id || s.User != "bob" {
			t.Errorf("%s: subject %v", name, s)
		}
		if again := must(SignRecord(got, bob.key))(t); string(again) != string(doc) {
			t.Errorf("%s: signed again it is another document", name)
		}
	}
}

func TestRecordThatTheEndpointDidNotSignIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	bob, mallory := m.member(t, "bob", start), m.member(t, "mallory", start)
	evicted, hub, foreign := m.member(t, "carol", start), m.hub(t, start), other.member(t, "bob", start)
	m.evict(t, "carol", start)
	v := m.verifier()
	signed := func(r Record, d device) []byte { return must(document.Sign(recordContext, r, d.key))(t) }
	with := func(r Record, alter func(r *Record)) Record { alter(&r); return r }
	tests := []struct {
		name string
		doc  []byte
		kind error
		text string
	}{
		{"signed by another", signed(recordOf(bob), mallory), ErrRecord, "not signed by the endpoint's key"},
		{"another's ID", signed(with(recordOf(mallory), func(r *Record) { r.ID = bob.id }), mallory), ErrRecord, "is for ID " + string(bob.id)},
		{"another's certificate", signed(with(recordOf(mallory), func(r *Record) { r.Certificate = bob.der }), mallory), ErrRecord, "is for ID " + string(mallory.id)},
		{"another kind of document", must(document.Sign(listContext, recordOf(bob), bob.key))(t), ErrRecord, "not signed"},
		{"a hub's", signed(recordOf(hub), hub), ErrWrongRole, "endpoint record: this is a hub's"},
		{"another mesh's", signed(recordOf(foreign), foreign), ErrWrongMesh, "endpoint record: certificate of another mesh"},
		{"an evicted user's", signed(recordOf(evicted), evicted), ErrEvicted, "endpoint record: user carol was evicted"},
		{"a non-member's", signed(with(recordOf(bob), func(r *Record) {
			r.Certificate = must(SelfSigned(bob.key, start))(t).Certificate[0]
		}), bob), ErrUntrusted, "endpoint record: certificate"},
		{"no certificate", signed(with(recordOf(bob), func(r *Record) { r.Certificate = nil }), bob), ErrRecord, "endpoint record: certificate"},
		{"empty", nil, ErrRecord, "endpoint record"},
		{"not JSON", []byte("x"), ErrRecord, "endpoint record"},
		{"too large", make([]byte, MaxRecord+1), ErrRecord, "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := v.Record(tt.doc)
			wantError(t, err, tt.kind, tt.text)
		})
	}
}

func TestTamperedRecordIsRefused(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	v := m.verifier()
	doc := must(SignRecord(recordOf(bob), bob.key))(t)
	for i := range doc {
		if _, _, err := v.Record(flip(doc, i)); err == nil {
			t.Fatalf("byte %d changed from %q: the record was accepted", i, doc[i])
		}
	}
}

func TestRecordBeyondItsLimitsIsNeitherSignedNorAccepted(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	v := m.verifier()
	many := func(n int, s string) (all []string) {
		for range n {
			all = append(all, s)
		}
		return all
	}
	for name, tt := range map[string]struct {
		alter func(r *Record)
		text  string
	}{
		"no name":               {func(r *Record) { r.Name = "" }, "name is empty"},
		"a name with a slash":   {func(r *Record) { r.Name = "a/b" }, "name"},
		"no ID":                 {func(r *Record) { r.ID = "" }, "not an ID"},
		"too many labels":       {func(r *Record) { r.Labels = many(33, "x") }, "33 labels"},
		"a long label":          {func(r *Record) { r.Labels = []string{strings.Repeat("x", 64)} }, "label"},
		"an empty label":        {func(r *Record) { r.Labels = []string{""} }, "label"},
		"a label of control":    {func(r *Record) { r.Labels = []string{"\x1b[2J"} }, "label"},
		"a label that turns":    {func(r *Record) { r.Labels = []string{"a\u202eb"} }, "label"},
		"too many offers":       {func(r *Record) { r.Offers = many(257, "x") }, "257 offers"},
		"a long offer":          {func(r *Record) { r.Offers = []string{strings.Repeat("x", 129)} }, "offer"},
		"an offer of two lines": {func(r *Record) { r.Offers = []string{"a\nb"} }, "offer"},
		"a long version":        {func(r *Record) { r.Version = strings.Repeat("x", 65) }, "version"},
		"too large in all":      {func(r *Record) { r.Offers = many(256, strings.Repeat("x", 128)) }, "larger than 16384 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := recordOf(bob)
			tt.alter(&r)
			_, err := SignRecord(r, bob.key)
			wantError(t, err, ErrRecord, tt.text)
			_, _, err = v.Record(must(document.Sign(recordContext, r, bob.key))(t))
			wantError(t, err, ErrRecord, tt.text)
		})
	}
	_, err := SignRecord(recordOf(bob), newDevice(t).key)
	wantError(t, err, ErrRecord, "not that of the key")
	bad := recordOf(bob)
	bad.Time = -1
	_, err = SignRecord(bad, bob.key) // a document cannot say it
	wantError(t, err, ErrRecord, "1970")
	bad = recordOf(bob)
	bad.Labels = []string{"\xff"}
	_, err = SignRecord(bad, bob.key)
	wantError(t, err, ErrRecord, "label")
}
