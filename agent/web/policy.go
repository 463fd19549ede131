package web

import (
	"net/http"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/policy/file"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// A page edits the policy as `ztm policy` does, as a file. The door turns it into a file and back; it
// is an API that changes it:
//
//	GET  .../policy/source  -> api.PolicySource
//	POST /policy/export     api.PolicySource -> policyFile
//	POST /policy/check      policyCheck -> policyChecked: what it would be, and who gains and loses what
//	PUT  .../policy/source  <- policyChecked.Next

// maxPolicy is the longest body of these requests, in bytes: two documents, and escapes in the file.
const maxPolicy = 4 * policy.MaxSource

type policyFile struct {
	File string `json:"file"`
}

type policyCheck struct {
	Now  api.PolicySource `json:"now"`
	File string           `json:"file"`
}

type policyChecked struct {
	Next       api.PolicySource `json:"next"`
	Tests      int              `json:"tests"` // all of them hold
	Difference file.Difference  `json:"difference"`
}

func (o *opening) exportPolicy(w http.ResponseWriter, r *http.Request, _ *session) {
	var in api.PolicySource
	err := answer.Decode(r, maxPolicy, &in)
	var text []byte
	if err == nil {
		if in.Source == nil {
			in.Source = &policy.Source{}
		}
		text, err = file.Write(in.Source, in.Version)
	}
	answer.Reply(w, o.host.Log, policyFile{string(text)}, err)
}

func (o *opening) checkPolicy(w http.ResponseWriter, r *http.Request, _ *session) {
	var in policyCheck
	err := answer.Decode(r, maxPolicy, &in)
	var out policyChecked
	if err == nil {
		out, err = in.check(unixtime.Of(time.Now()))
	}
	answer.Reply(w, o.host.Log, out, err)
}

// check reads the file, runs its tests and compares it with what is in force.
func (in policyCheck) check(now unixtime.Seconds) (out policyChecked, err error) {
	f, err := file.Read([]byte(in.File))
	if err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := f.CheckBase(in.Now.Version); err != nil {
		return out, answer.Errorf(answer.Conflict, "%v", err)
	}
	old := in.Now.Source
	if old == nil {
		old = &policy.Source{}
	}
	next, err := f.Source(old, now)
	if err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if wrong := f.Run(next, now); len(wrong) > 0 {
		return out, answer.Errorf(answer.BadRequest, "tests do not hold:\n%s", strings.Join(wrong[:min(len(wrong), 20)], "\n"))
	}
	out.Next, out.Tests = api.PolicySource{Version: in.Now.Version, Source: next}, len(f.Tests)
	if out.Difference, err = file.Diff(old, next, now); err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	out.Difference.Warns = append([]string{}, out.Difference.Warns...) // a list, also if it is empty
	if out.Tests == 0 {
		out.Difference.Warns = append(out.Difference.Warns, "the file has no tests: nothing says what it is to give, and what not")
	}
	return out, nil
}
