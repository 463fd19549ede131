package keep

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// many are endpoints without keepers.
func many(n int) []apps.Endpoint {
	out := make([]apps.Endpoint, n)
	for i := range out {
		digits := []byte(fmt.Sprintf("%032d", i))
		for j, c := range digits {
			digits[j] = c - '0' + 'a'
		}
		out[i].ID = identity.ID(digits)
	}
	return out
}

func TestOfTenThousandEndpointsEachIsToldAndNotTooManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(10_000)
		var told, now, most atomic.Int64
		root.Online = func(context.Context) ([]apps.Endpoint, error) { return all, nil }
		root.Ask = func(ctx context.Context, id identity.ID, _, _ string, _ []byte) (*http.Response, error) {
			defer now.Add(-1)
			most.Store(max(most.Load(), now.Add(1)))
			late := time.NewTimer(100 * time.Millisecond)
			defer late.Stop()
			select {
			case <-late.C:
				told.Add(1)
				return nil, answer.Errorf(answer.Unavailable, "it has gone")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		began := time.Now()
		root.propose(put(0, "bob"))
		eventually(t, "all are told", func() bool { return told.Load() == int64(len(all)) })
		if most.Load() > tellers {
			t.Errorf("%d are told at once, more than %d", most.Load(), tellers)
		}
		if took, want := time.Since(began), time.Duration(len(all)/tellers+2)*100*time.Millisecond; took > want {
			t.Errorf("it took %v, and with %d at a time %v are enough", took, tellers, want)
		}
	})
}

// BenchmarkTenThousandEndpoints is a change of a policy of 10,000 users, 1,000 groups of 50, 10,000 grants and
// 10,000 endpoints until each endpoint has its slice, without what the network takes.
func BenchmarkTenThousandEndpoints(b *testing.B) {
	t := new(testing.T)
	m := newMesh(t)
	root, all := m.join("root", "root"), many(10_000)
	defer root.stop()
	var served sync.WaitGroup
	var bytesOut atomic.Int64
	root.Online = func(context.Context) ([]apps.Endpoint, error) { return all, nil }
	root.Ask = func(_ context.Context, id identity.ID, _, _ string, _ []byte) (*http.Response, error) {
		defer served.Done()
		w := httptest.NewRecorder()
		root.Serve(w, httptest.NewRequest(http.MethodPost, PathSlice, bytes.NewReader([]byte(`{"asked":["group:g1"]}`))), identity.Subject{Role: identity.RoleMember, User: "bob", ID: id}, false)
		bytesOut.Add(int64(w.Body.Len()))
		return w.Result(), nil
	}
	change := func(s *signed.Source) error {
		*s = *empty()
		s.Mode = signed.Enforce
		for i := range 10_000 {
			s.Users[fmt.Sprint("u", i)] = signed.User{}
			s.Endpoints[fmt.Sprint("e", i)] = signed.Endpoint{ID: all[i].ID, Labels: []string{fmt.Sprint("site=", i%1000)}}
			s.Grants = append(s.Grants, signed.Grant{Name: fmt.Sprint("grant", i), Who: []signed.Who{{Name: fmt.Sprint("group:g", i%1000)}},
				To: []string{fmt.Sprint("tunnel/tcp/t", i)}, At: []string{fmt.Sprint("label:site=", i%1000)}, From: []string{"*"}})
		}
		for i := range 1000 {
			g := signed.Group{}
			for j := range 50 {
				g.Members = append(g.Members, signed.Member{User: fmt.Sprint("u", (i*50+j)%10_000), Added: 1})
			}
			s.Groups[fmt.Sprint("g", i)] = g
		}
		return nil
	}
	b.ReportAllocs()
	for b.Loop() {
		served.Add(len(all))
		if _, err := root.Propose(b.Context(), change); err != nil {
			b.Fatal(err)
		}
		served.Wait()
	}
	b.ReportMetric(float64(bytesOut.Load())/float64(b.N*len(all)), "bytes/slice")
}
