package policy

import (
	"math/rand/v2"
	"testing"

	"ztm/apps"
	"ztm/tunnel/unixtime"
)

func TestQuestionsAreAnsweredTheSameInWhateverOrderTheyAreAsked(t *testing.T) {
	type question struct {
		p   apps.Peer
		q   [2]string
		now unixtime.Seconds
	}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := someSource(r)
		rights := at(s, r.IntN(4), carol50)
		ask := func(q question) Decision { return rights.Decide(q.p, q.q[0], q.q[1], q.now) }
		var questions []question
		var answers []Decision
		for range 2000 {
			q := question{somebody(r), pick(r, asked), unixtime.Seconds(r.Int64N(110))}
			questions, answers = append(questions, q), append(answers, ask(q))
		}
		for _, i := range r.Perm(len(questions)) {
			if again := ask(questions[i]); again != answers[i] {
				t.Fatalf("seed %d: %+v is %+v, and was %+v", seed, questions[i], again, answers[i])
			}
		}
	}
}
