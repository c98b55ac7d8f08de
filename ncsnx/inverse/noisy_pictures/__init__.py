"""Pictures as they are: their noise, found or declared, and forms of them that D can take."""
