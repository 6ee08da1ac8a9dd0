package config

import "strings"

// Nearest returns the one of known that name was most likely meant to be: the
// same but for case or separators, or within a few typing mistakes (one in four letters, at most
// three; a swap of neighbours is one). It returns "" if none is near. Of equally near ones the first wins.
func Nearest(name string, known []string) string {
	best, least := "", min(3, (len(name)+3)/4)+1
	folded := fold(name)
	for _, k := range known {
		if k == name {
			return k
		}
		f := fold(k)
		if f == folded {
			best, least = k, 0
		}
		if d := distance(folded, f, least); d < least {
			best, least = k, d
		}
	}
	return best
}

// fold makes names equal that differ in case and separators only.
func fold(name string) string {
	return strings.NewReplacer("_", ".", "-", ".").Replace(strings.ToLower(name))
}

// distance is the optimal string alignment distance of a and b in bytes, or
// limit if it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
