package sink

import (
	"net/http"

	"ztm/tunnel/answer"
)

const maxBody = 64 << 10 // bytes of settings

// Serve answers a request of the endpoint's own user: GET shows the settings but for the secret,
// POST replaces them; the secret stays where none is given for the same webhook. save
// keeps what is in force from then on. err is for the caller to answer with; then nothing was
// written.
func (s *Sinks) Serve(w http.ResponseWriter, r *http.Request, save func(Settings) error) error {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var next Settings
		if err := answer.Decode(r, maxBody, &next); err != nil {
			return err
		}
		if now := s.Settings(); next.Secret == "" && next.Webhook == now.Webhook {
			next.Secret = now.Secret
		}
		if err := next.Check(); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
		if err := save(next); err != nil {
			return err
		}
		s.Use(next)
	default:
		return answer.Errorf(answer.NotFound, "the settings of the audit log are read and replaced, no more")
	}
	shown := s.Settings()
	shown.Secret = ""
	answer.JSON(w, shown)
	return nil
}
