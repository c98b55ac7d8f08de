"""Files of pictures as people have them: found, decoded, looked over."""
