package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"ztm/apps"
	"ztm/tunnel/unixtime"
)

// question is what an endpoint decides.
type question struct {
	p         apps.Peer
	app, name string
	now       unixtime.Seconds
}

// shifted are questions that differ from q, and of which some become the same text where their parts
// are put together without a mark between them.
func (q question) shifted() []question {
	out := []question{q, {apps.Peer{User: q.p.User, ID: idOf(5)}, q.app, q.name, q.now}}
	if n := len(q.app) - 1; n > 0 {
		out = append(out, question{q.p, q.app[:n], q.app[n:] + q.name, q.now}, question{q.p, q.app[:n], q.app[n:] + "/" + q.name, q.now})
	}
	if n := len(q.p.User) - 1; n > 0 {
		out = append(out, question{apps.Peer{User: q.p.User[:n], ID: q.p.ID}, q.p.User[n:] + q.app, q.name, q.now})
	}
	return out
}

// Where answers are kept for the next who asks, a question gets the answer of another whose key is the
// same: what is answered alone is compared with what is answered after many others, in two orders.
func TestQuestionsAreAnsweredTheSameInWhateverOrderTheyAreAsked(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		s, ep := someSource(r), r.IntN(4)
		var questions []question
		for range 500 {
			q := pick(r, asked)
			questions = append(questions, question{somebody(r), q[0], q[1], unixtime.Seconds(r.Int64N(110))}.shifted()...)
		}
		one, two := at(s, ep, carol50), at(s, ep, carol50)
		answers := make([]Decision, len(questions))
		for i, q := range questions {
			answers[i] = one.Decide(q.p, q.app, q.name, q.now)
			want, until := false, unixtime.Seconds(0)
			if q.p.User != "" {
				want, until = naive(s, fmt.Sprint("ep", ep), q.p, q.app, q.name, q.now, carol50)
			}
			if answers[i].Allow != want || want && answers[i].Until != until {
				t.Fatalf("seed %d: %+v is %+v, and by the source %v until %d", seed, q, answers[i], want, until)
			}
		}
		for _, i := range r.Perm(len(questions)) {
			q := questions[i]
			if again := two.Decide(q.p, q.app, q.name, q.now); again != answers[i] {
				t.Fatalf("seed %d: %+v is %+v, and was %+v", seed, q, again, answers[i])
			}
		}
	}
}
