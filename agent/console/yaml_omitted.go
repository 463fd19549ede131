//go:build ztm_router || ztm_omit_yaml

package console

// toYAML renders v as JSON, which is YAML too. What reads and writes the looser form costs 0.35 MB;
// `ztm apply` does without it here as well, so that it reads what this prints.
func toYAML(v any) ([]byte, error) {
	b, err := marshal(v)
	return append(b, '\n'), err
}
