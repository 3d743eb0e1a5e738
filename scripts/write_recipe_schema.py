"""Write recipes/schema.json, with which editors complete and check recipes: python scripts/write_recipe_schema.py"""

import json
from pathlib import Path

from blinddiff.training.recipe import recipe_schema


def main() -> None:
    """Write the file anew."""
    path = Path(__file__).resolve().parents[1] / "recipes" / "schema.json"
    path.write_text(json.dumps(recipe_schema(), indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
