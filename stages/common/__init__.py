"""What every stage uses: params, files, errors, progress, the session and its journal."""
