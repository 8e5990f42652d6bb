"""The developer dashboard: pages for people who have signed in, and what signs them in."""
