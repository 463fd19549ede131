package etcd

import (
	"bytes"
	"testing"
)

// FuzzMessages reads what a watch may say.
func FuzzMessages(f *testing.F) {
	for _, s := range []string{
		`{"result":{"header":{"cluster_id":"1","revision":"3"},"created":true}}{"result":{"events":[{"kv":{"key":"YQ==","mod_revision":"2","value":"MQ=="}},{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"}}]}}`,
		`{"result":{"created":true,"canceled":true,"compact_revision":"3"}}`,
		`{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}`,
		`{"result":{"fragment":true,"events":[{"kv":{"mod_revision":"-1"}}]}}`,
		`null`, `[]`, `{"result":7}`,
	} {
		f.Add([]byte(s), int64(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, after int64) {
		if err := messages(bytes.NewReader(b), after, func(header) {}, func([]Event, int64) {}); err == nil {
			t.Error("it has ended without an error")
		}
	})
}

// FuzzErrors reads what may be in the body of a refusal.
func FuzzErrors(f *testing.F) {
	for _, s := range []string{
		`{"error":"e","message":"m","code":3}`, `{"error":{"code":14,"message":"m"}}`, `Not Found`, ``, `{"error":[]}`, `{"message":"\u001b[31m"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range parseError(b).Error() {
			if r < ' ' {
				t.Errorf("%q is printed", r)
			}
		}
	})
}
