package bisect

import "testing"

func TestASettingWithAPatternIsMeantForEveryPlace(t *testing.T) {
	for _, pattern := range []string{"", "n", "+x01", "nonsense!"} {
		m, err := New(pattern)
		if m != nil || err != nil || !m.Stack(nil) {
			t.Errorf("%q: %v, %v", pattern, m, err)
		}
	}
}
