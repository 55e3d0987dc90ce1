from tfp_hybrid import datasets, recipes


def test_the_model_knows_the_names_of_its_inputs():
    dataset = datasets.load("simulation")
    assert tuple(recipes.recipe_for(dataset).model(dataset, 1.0).feature_names) == dataset.feature_names == ("x",)
