package notice

import (
	"net/http"

	"ztm/tunnel/answer"
)

const maxBody = 64 << 10 // bytes of settings

// Serve answers a request of the endpoint's own user: GET shows the settings but for the secret, PUT
// replaces them, POST tells a notice to try them. here says whether it comes from this device: what
// is run there is set there. save keeps what is in force from then on.
func (t *Teller) Serve(w http.ResponseWriter, r *http.Request, here bool, save func(Settings) error) error {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		t.Tell(Test, t.Now().UTC().Format("15:04:05.000"), "this is a test")
	case http.MethodPut:
		var next Settings
		if err := answer.Decode(r, maxBody, &next); err != nil {
			return err
		}
		if now := t.Settings(); next.Secret == "" && next.Webhook == now.Webhook {
			next.Secret = now.Secret
		}
		if err := next.Check(); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
		if !here && len(next.Command) > 0 {
			return answer.Errorf(answer.Denied, "a command that runs on an endpoint is set at that endpoint")
		}
		if err := save(next); err != nil {
			return err
		}
		t.Use(next)
	default:
		return answer.Errorf(answer.NotFound, "notices are set, shown and tried, no more")
	}
	shown := t.Settings()
	shown.Secret = ""
	answer.JSON(w, shown)
	return nil
}
