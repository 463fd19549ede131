package main

import "testing"

func TestWhatGrowsFromRoundToRoundIsSeenAndWhatGoesUpAndDownIsNot(t *testing.T) {
	for _, tt := range []struct {
		values []int64
		slack  int64
		want   bool
	}{
		{[]int64{10, 20, 30, 40, 50, 60}, 5, true},
		{[]int64{10, 70, 12, 75, 11, 80}, 5, false},
		{[]int64{10, 10, 10, 14, 13, 15}, 5, false}, // less than the slack
		{[]int64{1000, 1000, 1000, 1090, 1090, 1090}, 0, false},
		{[]int64{0, 0, 0, 0, 0, 0}, 0, false},
	} {
		if got := grows(tt.values, tt.slack); got != tt.want {
			t.Errorf("%d grows with a slack of %d: %v", tt.values, tt.slack, got)
		}
	}
}
