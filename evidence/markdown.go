package evidence

import (
	"fmt"
	"strings"
	"time"
)

// Markdown is the report for people.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Evidence for cluster %s\n\nWritten %s. %d points are proven, %d are not.\n", plain(r.Cluster), r.Written.Format(time.RFC3339), r.Proven, r.Unproven)
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.Title)
		if len(s.Points) == 0 {
			b.WriteString("Nothing to prove.\n")
		}
		for _, p := range s.Points {
			if p.Proven {
				fmt.Fprintf(&b, "- **Proven**: %s. Shown by: %s.\n", plain(p.Claim), plain(p.Shown))
			} else {
				fmt.Fprintf(&b, "- **Unproven**: %s. To prove it: %s.\n", plain(p.Claim), plain(p.Step))
			}
		}
	}
	return b.String()
}

// plain is text in which nothing is markup.
func plain(text string) string {
	return strings.NewReplacer("\\", "\\\\", "\n", " ", "*", "\\*", "_", "\\_", "`", "\\`", "<", "\\<", "[", "\\[", "|", "\\|").Replace(text)
}
