package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestOfAnnotationsOursAloneAreKept(t *testing.T) {
	var s Service
	text := fmt.Sprintf(`{"metadata":{"name":"web","annotations":{"ztm.dev/expose":"true","ztm.dev/users":%q,"large/other":%q},
		"managedFields":[{"x":1}]},"spec":{"selector":{"app":"web"}}}`, strings.Repeat("ü,", 100_000), strings.Repeat("x", 200_000))
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if a := s.Annotations; len(a) != 2 || a["ztm.dev/expose"] != "true" || len(a["ztm.dev/users"]) != MaxNote+1 {
		t.Errorf("%d annotations, users has %d bytes", len(a), len(a["ztm.dev/users"]))
	}
	if !s.Spec.Selects() {
		t.Error("the selector is not seen")
	}
}

func TestConditionsThatAreMissingHaveTheirDefaults(t *testing.T) {
	for text, want := range map[string][2]bool{
		`{}`: {true, false}, `{"ready":false}`: {false, false}, `{"ready":true,"serving":true}`: {true, false},
		`{"ready":false,"serving":true,"terminating":true}`: {false, true}, `{"ready":false,"serving":false,"terminating":true}`: {false, false},
	} {
		var c Conditions
		if err := json.Unmarshal([]byte(text), &c); err != nil || [2]bool{c.IsReady(), c.IsLeaving()} != want {
			t.Errorf("%s: ready %v, leaving %v, %v", text, c.IsReady(), c.IsLeaving(), err)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"name":"web","resourceVersion":"7"}}}`)
	f.Add(`{"type":"ERROR","object":{"code":410,"message":"\u0000"}}`)
	f.Add(`{"type":"DELETED","object":null}`)
	f.Fuzz(func(t *testing.T, line string) {
		w := follower[Service]{cache: NewCache[Service](func() {})}
		w.cache.replace(nil)
		var e event
		if json.Unmarshal([]byte(line), &e) == nil {
			_ = w.apply(e)
		}
		if items, _ := w.cache.Items(); len(items) > 1 {
			t.Errorf("one line made %d Services", len(items))
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add(`{"kind":"List","metadata":{"resourceVersion":"7","continue":""},"items":[{"metadata":{"name":"web"}}]}`)
	f.Add(`{"items":null,"metadata":{"resourceVersion":"7"}}`)
	f.Add(`{"items":[{}`)
	f.Fuzz(func(t *testing.T, text string) {
		body := &capped{r: strings.NewReader(text), left: maxObject}
		var p page[Service]
		if err := p.read(json.NewDecoder(body), body); err == nil && len(p.items) > len(text) {
			t.Errorf("%d items of %d bytes", len(p.items), len(text))
		}
	})
}
